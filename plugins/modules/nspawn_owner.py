#!/usr/bin/python
"""Says beside a lab's machines on this computer whose they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_owner
short_description: Whose the machines in a folder are
description:
  - Writes C(owner.json) into the folder of a lab's machines, which every user of the computer may read.
  - Of two clones that make a lab of the same name at the same moment, one gets it and the other fails.
options:
  directory:
    description: Folder of the lab's machines.
    type: path
    required: true
  owner:
    description: The C(folder) of the clone, its C(user), and the lab's C(id), as the action C(lab_guard) returns them.
    type: dict
    required: true
    suboptions:
      folder:
        description: The clone's folder.
        type: str
        required: true
      user:
        description: Who works in it.
        type: str
        required: true
      id:
        description: The lab's id.
        type: str
        required: true
  adopt:
    description: Make it this owner's where it was another's.
    type: bool
    default: false
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Say whose the machines are
  hashistack.lab.nspawn_owner:
    directory: /var/lib/hashistack-lab/lab
    owner: "{{ __guard.owner }}"
"""

RETURN = r""" # """

import contextlib
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.lab_owner import (
    OWNER_FILE,
    Owner,
    RefusedError,
    check_owner,
    read_owner,
)


def claim(directory: str, owner: Owner, adopt: bool, check_mode: bool) -> bool:
    """Make the machines in ``directory`` those of ``owner``; whether they were not.

    Raises:
        RefusedError: they are another's.

    """
    present = read_owner(directory)
    if present and (present.folder, present.id) == (owner.folder, owner.id):
        return False
    if present and not adopt:
        check_owner(os.path.basename(directory), "containers", present, owner)
    if check_mode:
        return True
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o755)
    # Complete from the moment on when it can be seen, and only one makes it.
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(descriptor, 0o644)
            stream.write(owner.as_json() + "\n")
        if present:
            os.replace(temporary, os.path.join(directory, OWNER_FILE))
        else:
            try:
                os.link(temporary, os.path.join(directory, OWNER_FILE))
            except FileExistsError:
                return claim(directory, owner, False, check_mode)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "owner": {
                "type": "dict",
                "required": True,
                "options": {name: {"type": "str", "required": True} for name in Owner._fields},
            },
            "adopt": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    owner = Owner(**{name: module.params["owner"][name] for name in Owner._fields})
    try:
        changed = claim(module.params["directory"], owner, module.params["adopt"], module.check_mode)
    except RefusedError as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
