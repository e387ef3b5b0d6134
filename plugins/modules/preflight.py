#!/usr/bin/python
"""Documentation of the action plugin of this name, which has no module."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Find everything that is wrong with the lab's inventory and its controller
description:
  - Fails with all problems at once, a sentence and a remedy each, before anything is touched. Changes nothing.
  - An action of the controller, without a connection. It belongs to this lab's playbooks, and reads their variables.
options:
  project:
    description: The project's folder.
    type: path
    required: true
  containers:
    description: Whether the machines are containers of this computer, which must then be able to hold them.
    type: bool
    default: false
  bridge:
    description: The network bridge of the containers.
    type: str
    default: ""
  choices:
    description: Variable to the values that it may have, for those that no role's options name.
    type: dict
    default: {}
  commands:
    description: Commands that the controller must have for containers.
    type: list
    elements: str
    default: []
  skip:
    description: Names of checks to leave out.
    type: list
    elements: str
    default: []
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: The inventory and the controller are in order
  hashistack.lab.preflight:
    project: "{{ playbook_dir }}/.."
  run_once: true
"""

RETURN = r""" # """
