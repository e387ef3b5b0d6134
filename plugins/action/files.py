"""Put all files of a role on a host, and run their unit: what the module ``files`` gets is rendered and read here.

See the module for the options. Templates are looked for in the role's C(templates), files to copy in its C(files), as
ansible.builtin.template and ansible.builtin.copy do.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

SOURCES = ("template", "copy", "content")
"""Where a file's content comes from."""


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """The module's options; ``template``, ``copy`` and ``content`` become its ``contents``."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fill in each file's content and let the module compare and write."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        files, contents = [], {}
        try:
            for item in self._task.args.get("files") or []:
                if not boolean(item.get("if", True)):
                    continue
                files.append({name: value for name, value in item.items() if name not in (*SOURCES, "if")})
                content = self._content(item, task_vars or {})
                if content is not None:
                    contents[item["path"]] = base64.b64encode(content).decode()
        except OSError as error:
            raise AnsibleActionFail(f"{error.filename} on the controller can't be read: {error.strerror}.") from error
        arguments = {**self._task.args, "files": files, "contents": contents}
        return {**result, **self._execute_module("hashistack.lab.files", module_args=arguments, task_vars=task_vars)}

    def _content(self, item: dict[str, Any], variables: dict[str, Any]) -> bytes | None:
        """What the file is to hold, None for what is no file."""
        named = [name for name in (*SOURCES, "link", "state") if item.get(name) is not None]
        if len(named) != 1:
            given = " and ".join(named) or "no source"
            raise AnsibleActionFail(
                f"{item.get('path')} has {given}: give one of {', '.join(SOURCES)}, link and state."
            )
        value = item[named[0]]
        if named[0] == "copy":
            return Path(self._find_needle("files", value)).read_bytes()
        if named[0] in SOURCES:
            return (self._render(value, variables) if named[0] == "template" else str(value)).encode()
        return None

    def _render(self, name: str, variables: dict[str, Any]) -> str:
        """A template's text, as ansible.builtin.template would make it."""
        path = Path(self._find_needle("templates", name))
        search = [Path(folder) for folder in (*variables.get("ansible_search_path", []), self._loader.get_basedir())]
        templar = self._templar.copy_with_new_env(
            searchpath=[str(place) for folder in (*search, path.parent) for place in (folder / "templates", folder)],
            available_variables={"ansible_managed": "Ansible managed", **variables},
        )
        text = trust_as_template(self._loader.get_text_file_contents(str(path)))
        rendered = templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True})
        return "" if rendered is None else str(rendered)
