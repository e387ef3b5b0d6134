#!/usr/bin/python
"""Put all files of a role on a host, and run the unit that reads them, in one go."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Put all files of a role on a host, and run the unit that reads them, in one go
description:
  - Compares a list of files, folders and links with what the host has, and writes what differs, each file in one step
    that survives a crash. One task and one round trip in place of one for each file.
  - A file that its O(files[].validate) refuses is not written, nor is any after it.
  - Missing folders on the way are made, readable by all.
  - Then the unit that reads them runs, as M(hashistack.lab.systemd_unit) says.
  - No module of the collections writes more than one file.
options:
  users:
    description:
      - Lines of C(sysusers.d) for the system users and groups that the files belong to. They are made first, by
        C(systemd-sysusers), where they are missing.
    type: list
    elements: str
    default: []
  owner:
    description: Owner of all files that name none themselves; empty means who runs the task.
    type: str
    default: ""
  group:
    description: Their group; empty means that of who runs the task.
    type: str
    default: ""
  mode:
    description: Mode of the files, as a string. Folders without one get V(0755).
    type: str
    default: "0644"
  contents:
    description: Content of each file, in base64 by its path. The action plugin fills it in.
    type: dict
    default: {}
  files:
    description: The files, in the order in which they are written.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it stands on the host.
        type: path
        required: true
      template:
        description: Name of a template, looked for as M(ansible.builtin.template) does.
        type: str
      copy:
        description: Path of a file on the controller, looked for as M(ansible.builtin.copy) does.
        type: str
      content:
        description: The text itself.
        type: str
      link:
        description:
          - What it leads to as a symbolic link. A link is not made while what it leads to is missing; see RV(missing).
        type: str
      state:
        description: That it is a folder, or nothing.
        type: str
        choices: [directory, absent]
      owner:
        description: Its own owner.
        type: str
      group:
        description: Its own group.
        type: str
      mode:
        description: Its own mode.
        type: str
      if:
        description: Whether it is meant at all; if not, nobody looks at it.
        type: bool
        default: true
      force:
        description: Whether a file that is there with another content is replaced.
        type: bool
        default: true
      validate:
        description: A command that must accept the new content; V(%s) stands for its file.
        type: str
      no_log:
        description: Whether its content is a secret, which no diff shows.
        type: bool
        default: false
  unit:
    description: The systemd unit that reads them, which is run once they are there. None where it is left out.
    type: dict
    suboptions:
      name:
        description: Name of the unit.
        type: str
        required: true
      restart_on:
        description: Paths or globs of files that the unit reads only when it starts.
        type: list
        elements: str
        default: []
      reload_on:
        description: Paths or globs of files that the unit reads again when it is reloaded.
        type: list
        elements: str
        default: []
      restart:
        description: Whether a running unit is restarted; see M(hashistack.lab.systemd_unit).
        type: bool
        default: true
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows what changes in files of text that hold no secret.
    support: full
"""

EXAMPLES = r"""
- name: Write the settings, the key and the unit, and run it
  hashistack.lab.files:
    users: ["u consul - - /var/lib/consul"]
    group: consul
    mode: "0640"
    files:
      - { path: /etc/consul.d, state: directory, mode: "0750" }
      - { path: /etc/consul.d/tls/consul-key.pem, copy: "{{ consul_tls_key }}", no_log: true }
      - path: /etc/consul.d/consul.json
        template: consul.json.j2
        validate: consul validate -config-format=json %s
      - { path: /etc/systemd/system/consul.service, template: consul.service.j2, group: root, mode: "0644" }
    unit:
      name: consul.service
      restart_on: [/etc/consul.d/consul.json]
      reload_on: [/etc/consul.d/tls/*.pem]
"""

RETURN = r"""
written:
  description: Paths of what was changed, or would be in check mode; names of the users that were made.
  type: list
  elements: str
  returned: success
missing:
  description: What links would lead to and what is not there. These links were left alone.
  type: list
  elements: str
  returned: success
action:
  description: What was done with the unit, or would be in check mode, or with O(unit.restart=false) what is left to do.
  type: str
  returned: success, with a unit
  sample: none, start, restart or reload
reason:
  description: Why, in a sentence; empty where nothing was done.
  type: str
  returned: success, with a unit
"""

import base64
import grp
import os
import pwd
import shlex
import shutil
import stat
import tempfile
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils import systemd_unit


class Target(NamedTuple):
    """A file, folder or link as it should be; ``content`` is None for what has none."""

    path: str
    kind: str  # file, directory, link or absent
    content: bytes | None
    link: str
    owner: str
    group: str
    mode: int
    force: bool
    validate: str
    secret: bool


def target(item: dict[str, Any], options: dict[str, Any]) -> Target:
    """A file of the option O(files), with its content and the defaults of the task."""
    kind = "link" if item["link"] is not None else item["state"] or "file"
    mode = item["mode"] or ("0755" if kind == "directory" else options["mode"])
    return Target(
        item["path"],
        kind,
        base64.b64decode(options["contents"][item["path"]]) if kind == "file" else None,
        item["link"] or "",
        item["owner"] or options["owner"] or pwd.getpwuid(os.geteuid()).pw_name,
        item["group"] or options["group"] or grp.getgrgid(os.getegid()).gr_name,
        int(mode, 8),
        item["force"],
        item["validate"] or "",
        item["no_log"],
    )


def missing_users(lines: list[str]) -> list[str]:
    """Those lines of sysusers.d whose user (u), group (g) or membership (m) the host lacks."""
    found = []
    for line in lines:
        kind, name, identity = [*line.split(), "", ""][:3]
        try:
            if kind == "u":
                pwd.getpwnam(name)
            elif kind == "g":
                grp.getgrnam(name)
            elif name not in grp.getgrnam(identity).gr_mem:
                found.append(line)
        except KeyError:
            found.append(line)
    return found


def is_current(wanted: Target) -> bool:
    """Whether the host has it just as it should be."""
    try:
        status = os.lstat(wanted.path)
    except FileNotFoundError:
        return wanted.kind == "absent"
    if wanted.kind == "absent":
        return False
    if wanted.kind == "link":
        return stat.S_ISLNK(status.st_mode) and os.readlink(wanted.path) == wanted.link
    try:
        owner, group = pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid
    except KeyError:  # In check mode, before they are made.
        return False
    if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (owner, group, wanted.mode):
        return False
    return same_content(wanted, status)


def same_content(wanted: Target, status: os.stat_result) -> bool:
    """Whether it is of the right kind and, if a file, holds what it should, or may hold what it likes."""
    if wanted.kind == "directory":
        return stat.S_ISDIR(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        return False
    return not wanted.force or read(wanted.path) == wanted.content


def read(path: str) -> bytes:
    """A file's content; nothing for what is no file."""
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as stream:
        return stream.read()


def difference(wanted: Target) -> dict[str, str]:
    """What `--diff` shows of it."""

    def text(content: bytes) -> str:
        return "(a secret)\n" if wanted.secret else content.decode(errors="replace")

    if wanted.content is not None and read(wanted.path) != wanted.content:
        before = text(read(wanted.path)) if os.path.isfile(wanted.path) else ""
        after = "(another secret)\n" if wanted.secret else text(wanted.content)
        return {"before_header": wanted.path, "after_header": wanted.path, "before": before, "after": after}
    return {"prepared": f"{wanted.path}: {wanted.kind} {wanted.owner}:{wanted.group} {wanted.mode:04o} {wanted.link}\n"}


def put(wanted: Target) -> None:
    """Make it so."""
    if wanted.kind == "absent":
        remove(wanted.path)
        return
    make_folders(os.path.dirname(wanted.path))
    if wanted.kind == "link":
        # symlink() refuses a name that somebody took meanwhile.
        temporary = tempfile.mktemp(dir=os.path.dirname(wanted.path), prefix=".")
        os.symlink(wanted.link, temporary)
        os.replace(temporary, wanted.path)
        return
    owner, group = pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid
    try:
        right = same_content(wanted, os.lstat(wanted.path))
    except FileNotFoundError:
        right = False
    if right:
        os.chown(wanted.path, owner, group)
        os.chmod(wanted.path, wanted.mode)
    elif wanted.kind == "directory":
        if os.path.lexists(wanted.path):
            os.unlink(wanted.path)
        os.mkdir(wanted.path)
        os.chown(wanted.path, owner, group)
        os.chmod(wanted.path, wanted.mode)
    else:
        write(wanted, owner, group)


def write(wanted: Target, owner: int, group: int) -> None:
    """Replace a file in one step: written beside it, synced, renamed."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(wanted.path), prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchown(stream.fileno(), owner, group)
            os.fchmod(stream.fileno(), wanted.mode)
            stream.write(wanted.content or b"")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, wanted.path)
    except BaseException:
        os.unlink(temporary)
        raise


def make_folders(path: str) -> None:
    """Make a folder and those on the way to it, readable by all, whatever this process' umask."""
    if path and not os.path.isdir(path):
        make_folders(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, 0o755)


def remove(path: str) -> None:
    """Remove a file, a link or a folder with all that is in it."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def validate(module: AnsibleModule, wanted: Target) -> None:
    """Let the file's own program judge its new content; end the module where it refuses."""
    descriptor, temporary = tempfile.mkstemp(dir=module.tmpdir)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(wanted.content or b"")
        command = [word.replace("%s", temporary) for word in shlex.split(wanted.validate)]
        code, out, err = module.run_command(command)
    finally:
        os.unlink(temporary)
    if code != 0:
        said = (err.strip() or out.strip()).replace(temporary, wanted.path)
        module.fail_json(msg=f"{wanted.path} would be wrong and was not written: '{command[0]}' says: {said}")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "users": {"type": "list", "elements": "str", "default": []},
            "owner": {"type": "str", "default": ""},
            "group": {"type": "str", "default": ""},
            "mode": {"type": "str", "default": "0644"},
            "contents": {"type": "dict", "default": {}, "no_log": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "link": {"type": "str"},
                    "state": {"type": "str", "choices": ["directory", "absent"]},
                    "owner": {"type": "str"},
                    "group": {"type": "str"},
                    "mode": {"type": "str"},
                    "force": {"type": "bool", "default": True},
                    "validate": {"type": "str"},
                    "no_log": {"type": "bool", "default": False},
                },
                "mutually_exclusive": [["link", "state"]],
            },
            "unit": {"type": "dict", "options": systemd_unit.ARGUMENTS},
        },
        supports_check_mode=True,
    )
    users = missing_users(module.params["users"])
    if users and not module.check_mode:
        code, out, err = module.run_command(["systemd-sysusers", "--inline", *users])
        if code != 0:
            module.fail_json(msg=f"systemd-sysusers can't make the users: {err.strip() or out.strip()}")

    targets = [target(item, module.params) for item in module.params["files"]]
    # A link to nothing may lead to what an earlier file of the list makes.
    made = {wanted.path for wanted in targets}
    aims = {wanted.path: os.path.join(os.path.dirname(wanted.path), wanted.link) for wanted in targets if wanted.link}
    missing = [wanted.path for wanted in targets if wanted.link and not there(aims[wanted.path], made)]
    changes = [wanted for wanted in targets if wanted.path not in missing and not is_current(wanted)]
    result = {
        "changed": bool(users or changes),
        "written": [line.split()[1] for line in users] + [wanted.path for wanted in changes],
        "missing": [aims[path] for path in missing],
        "diff": [difference(wanted) for wanted in changes],
    }
    if not module.check_mode:
        try:
            for wanted in changes:
                if wanted.validate:
                    validate(module, wanted)
                put(wanted)
        except KeyError as error:
            module.fail_json(msg=f"This host has no such owner or group: {error}.")
        except OSError as error:
            module.fail_json(msg=f"{error.filename or 'A file'} can't be written: {error.strerror}.")
    if module.params["unit"]:
        changed, decision = systemd_unit.run(module, module.params["unit"])
        result.update(changed=changed or result["changed"], action=decision.action, reason=decision.reason)
    module.exit_json(**result)


def there(path: str, made: set[str]) -> bool:
    """Whether something is at the path, or will be."""
    return os.path.exists(path) or os.path.normpath(path) in made


if __name__ == "__main__":
    main()
