#!/usr/bin/python
"""Documentation of the action plugin of this name, which has no module."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_guard
short_description: Let a playbook pass only where the lab is this clone's
description:
  - Fails where the lab is another clone's or user's, of another kind than the inventory's, or in use by another run.
  - An action of the controller, without a connection. It belongs to this lab's playbooks, and reads their variables.
options:
  hold:
    description: Hold the lab until this run ends. Check mode never does.
    type: bool
    default: true
  make:
    description: Make the lab's folder, if it is not there.
    type: bool
    default: false
  removing:
    description: Whether the lab is to be removed.
    type: bool
    default: false
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: The lab is this clone's, and nobody else works on it
  hashistack.lab.lab_guard:
  run_once: true
"""

RETURN = r"""
owner:
  description: This clone as the lab's owner; its C(folder), C(user), and the lab's C(id).
  type: dict
  returned: where the inventory names a machine
"""
