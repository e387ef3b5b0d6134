#!/usr/bin/python
"""Enable and run a systemd unit, and restart it when its files are newer than its process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_unit
short_description: Run a systemd unit that is never older than its files
description:
  - Enables and starts a unit. Restarts it when a file that it reads at start (or the unit's own definition) has
    changed since it started, and reloads it when a file that it reads at reload has changed since.
  - The comparison is between times on the host, so it is also right after a run that was cut off between
    writing a file and restarting the unit; a handler's notification would be lost there.
  - Fails, with what the unit last said, where the unit does not stay up. systemd's own word for one that crashes each
    second is C(activating), and a start that it calls good may end a moment later.
  - No module of ansible.builtin does any of these.
options:
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
    description:
      - Whether a running unit is restarted. If not, one that must restart stays as it is for now, reads what it can
        by a reload, and RV(action) says V(restart), for a playbook that restarts one host after the other.
    type: bool
    default: true
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Run Consul with its current configuration
  hashistack.lab.systemd_unit:
    name: consul.service
    restart_on: [/etc/consul.d/consul.hcl]
    reload_on: [/etc/consul.d/*.json]
"""

RETURN = r"""
action:
  description: What was done, or would be in check mode, or with O(restart=false) what is left to do.
  type: str
  returned: always
  sample: none, start, restart or reload
reason:
  description: Why, in a sentence; empty where nothing was done.
  type: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.systemd_unit import ARGUMENTS, run


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    changed, decision = run(module, module.params)
    module.exit_json(changed=changed, action=decision.action, reason=decision.reason)


if __name__ == "__main__":
    main()
