"""Let a playbook pass only where the lab is this clone's, of the playbook's kind, and nobody else works on it.

An action plugin, because it runs on the controller without a connection and before anything is touched. What it asks
and what its refusals say stands in module_utils/lab_owner.py.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.hashistack.lab.plugins.module_utils import lab_owner
from ansible_collections.hashistack.lab.plugins.module_utils.lab_owner import Owner, RefusedError

PROJECT = Path(__file__).resolve().parents[2]
SECONDS = 10
"""How long reading the machines' keys may take."""


def lets_in(machines_directory: str, key_file: str) -> bool:
    """Whether a container lets in the key that this clone keeps for it. Only root may look, so this may need sudo."""
    try:
        key = Path(key_file).read_text(encoding="utf-8").split()[1]
    except (OSError, IndexError):
        return False
    files = [f"{machines_directory}/{name}/upper/root/.ssh/authorized_keys" for name in machines(machines_directory)]
    command = [*([] if os.geteuid() == 0 else ["sudo", "-n"]), "cat", "--", *files]
    try:
        return key in subprocess.run(command, capture_output=True, timeout=SECONDS, check=False).stdout.decode().split()
    except (OSError, ValueError, subprocess.SubprocessError):
        return False


def machines(machines_directory: str) -> list[str]:
    """The names of the machines that have files on this computer."""
    try:
        return sorted(entry.name for entry in os.scandir(machines_directory) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def container_owner(machines_directory: str) -> Owner | None:
    """Whose the containers are; an owner without a folder where they were made before they said so."""
    owner = lab_owner.read_owner(machines_directory)
    return owner or (lab_owner.UNKNOWN if machines(machines_directory) else None)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Task arguments.

    ``hold`` the lab until this run ends, ``make`` its folder too; ``removing`` whether the lab is to be removed.
    Returns ``owner``, this clone as the owner of the lab. Check mode changes nothing, so it holds nothing either.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("hold", "make", "removing"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Pass or refuse."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        hosts = [host for host in variables["groups"].get("lab", []) if host in variables["hostvars"]]
        if not hosts and "removing" in self._task.args:
            return {**result, "failed": True, "msg": "The inventory names no machine of group 'lab': nothing was done."}
        if not hosts:  # The preflight says that.
            return {**result, "changed": False}
        if "lab_machines" not in variables["hostvars"].raw_get(hosts[0]):
            text = "The inventory lacks what inventories/example has: write your machines into a copy of that folder"
            return {**result, "failed": True, "msg": f"{text} (docs/your-machines.md). Nothing was changed."}
        try:
            owner = self._guard(variables["hostvars"][hosts[0]])
        except RefusedError as refusal:
            return {**result, "failed": True, "msg": f"{refusal} Nothing was changed."}
        except PermissionError as error:
            text = f"{error.filename} belongs to another user: work as that user, or use another name, as in"
            return {**result, "failed": True, "msg": f"{text} 'LAB_NAME=other make up'. Nothing was changed."}
        return {**result, "changed": False, "owner": owner._asdict()}

    def _guard(self, values: Any) -> Owner:
        options = {name: boolean(self._task.args.get(name, name == "hold")) for name in self._VALID_ARGS}
        name, directory = str(values["lab_name"]), str(values["lab_directory"])
        kind = str(values["lab_machines"])
        lab_owner.check_kind(name, directory, kind)
        if options["removing"]:
            lab_owner.check_down(name, kind)
        clone = lab_owner.this_clone(str(PROJECT), directory)
        if kind == "containers":
            place = str(values["lab_machines_directory"])
            owner = container_owner(place)
            known = owner is not None and owner.id == clone.id != ""
            keys = known or (owner is not None and lets_in(place, f"{directory}/ssh/id_ed25519.pub"))
            adopt = boolean(values.get("lab_adopt", False))
            lab_owner.check_owner(name, kind, owner, clone, keys=keys, adopt=adopt, removing=options["removing"])
            if owner and keys and owner.id:
                clone = clone._replace(id=owner.id)
        if options["hold"] and not self._task.check_mode:
            if options["make"]:
                lab_owner.make_private(directory)
            if Path(directory).is_dir():
                lab_owner.hold(name, directory)
            if options["make"]:
                clone = clone._replace(id=lab_owner.settle(directory, kind, clone.id))
        return clone
