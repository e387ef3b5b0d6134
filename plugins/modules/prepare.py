#!/usr/bin/python
"""Documentation of the action plugin of this name, which has no module."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prepare
short_description: Prepare programs for machines with another kind of processor
description:
  - Downloads or compiles on the controller what C(make prepare) has for the controller's own kind of processor only,
    and shows how that goes on. What is there already costs half a second.
  - An action of the controller, without a connection. It belongs to this lab's playbooks.
options:
  architectures:
    description: Kinds of processors, as the machines' kernels name them.
    type: list
    elements: str
    required: true
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Prepares in check mode too, since no machine is changed by it.
    support: none
"""

EXAMPLES = r"""
- name: Prepare programs for the machines that have another kind of processor
  hashistack.lab.prepare:
    architectures: [aarch64]
  run_once: true
"""

RETURN = r"""
artifacts:
  description: What C(.lab/artifacts.json) holds now.
  type: dict
  returned: success
"""
