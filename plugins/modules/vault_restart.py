#!/usr/bin/python
"""Restart one node of a Vault cluster, only when the others can do without it, and wait until it serves again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_restart
short_description: Restart a node of a Vault cluster without the cluster noticing
description:
  - Runs on the node. Before the restart, enough of the other nodes must be unsealed, know a leader and have applied
    what the leader has committed, so that they stay a quorum; the module waits for that, and fails without touching
    anything if it does not come about. After it, waits until the node is unsealed again, knows a leader and has
    caught up. With the task's C(throttle) of 1 this restarts a cluster one node at a time and stops at the first
    that does not come back.
  - A node that is sealed or not initialised serves nobody and is restarted at once.
  - On its way down an active node hands over its leadership.
options:
  unit:
    description: Vault's systemd unit.
    type: str
    default: vault.service
  url:
    description: The node's own API address.
    type: str
    required: true
  peers:
    description: API addresses of the other nodes; none for a single node.
    type: list
    elements: str
    default: []
  ca_cert:
    description: CA of the nodes' certificates, on the host.
    type: path
    required: true
  server_name:
    description: Name that the nodes' certificates bear.
    type: str
    required: true
  role:
    description: With V(standby), leaves an active node alone, so that a task before can restart all others first.
    type: str
    choices: [any, standby]
    default: any
  timeout:
    description: Seconds to wait for the others before, and for the node after.
    type: int
    default: 120
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Restart the standby nodes, one after the other
  hashistack.lab.vault_restart:
    url: https://127.0.0.1:8200
    peers: "{{ vault_raft_peers }}"
    ca_cert: /etc/vault.d/tls/ca.pem
    server_name: vault.service.consul
    role: standby
  throttle: 1
  register: standby

- name: Restart the active node, last
  hashistack.lab.vault_restart:
    url: https://127.0.0.1:8200
    peers: "{{ vault_raft_peers }}"
    ca_cert: /etc/vault.d/tls/ca.pem
    server_name: vault.service.consul
  throttle: 1
  when: not standby.changed
"""

RETURN = r"""
message:
  description: What was found and done, in a sentence.
  type: str
  returned: always
"""

import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.http_api import RequestError, ask

# Seconds between two looks.
EVERY = 0.5


def look(url: str, ca_cert: str, server_name: str) -> dict[str, Any] | None:
    """A node's seal status and view of the leader, None where it does not answer."""
    try:
        paths = ("sys/seal-status", "sys/leader")
        seal, leader = (ask(url, path, ca_cert=ca_cert, server_name=server_name) for path in paths)
        return {**seal, **leader}
    except RequestError:
        return None


def serves(node: dict[str, Any] | None, index: int) -> bool:
    """Whether a node is unsealed, in a cluster with a leader, and has applied raft's log up to an index."""
    return bool(
        node
        and node.get("initialized")
        and not node.get("sealed")
        and (node.get("is_self") or node.get("leader_address"))
        and int(node.get("raft_applied_index") or 0) >= index
    )


def quorum(nodes: int) -> int:
    """How many of a number of nodes must live.

    >>> quorum(3), quorum(5), quorum(1)
    (2, 3, 1)
    """
    return nodes // 2 + 1


def missing(peers: dict[str, dict[str, Any] | None], index: int) -> list[str]:
    """The peers that must come back before another node may go; [] where enough of them serve."""
    bad = [url for url, node in peers.items() if not serves(node, index)]
    return bad if peers and len(peers) - len(bad) < quorum(len(peers) + 1) else []


def journal(unit: str) -> list[str]:
    """The last lines of a unit's journal."""
    done = subprocess.run(
        ["journalctl", "--unit", unit, "--lines", "20", "--no-pager", "--output", "cat"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "default": "vault.service"},
            "url": {"type": "str", "required": True},
            "peers": {"type": "list", "elements": "str", "default": []},
            "ca_cert": {"type": "path", "required": True},
            "server_name": {"type": "str", "required": True},
            "role": {"type": "str", "choices": ["any", "standby"], "default": "any"},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    unit: str = module.params["unit"]
    url: str = module.params["url"]
    trust: tuple[str, str] = (module.params["ca_cert"], module.params["server_name"])
    timeout: int = module.params["timeout"]

    before = look(url, *trust)
    if module.params["role"] == "standby" and before and before.get("is_self"):
        module.exit_json(changed=False, message="The node is active; its turn is last.")
    served = serves(before, 0)
    index = int((before or {}).get("raft_committed_index") or 0)
    deadline = time.monotonic() + timeout
    while served and not module.check_mode:
        bad = missing({peer: look(peer, *trust) for peer in module.params["peers"]}, index)
        if not bad:
            break
        if time.monotonic() > deadline:
            module.fail_json(
                msg=f"Not restarted, since the cluster can't do without this node: {', '.join(bad)} sealed, behind or "
                "not answering. See 'journalctl --unit vault' there, or unseal it by hand, and run this again."
            )
        time.sleep(EVERY)
    if module.check_mode:
        module.exit_json(changed=True, message="The node would be restarted.")

    for arguments in (["daemon-reload"], ["enable", unit], ["restart", unit]):
        code, out, err = module.run_command(["systemctl", *arguments])
        if code != 0:
            module.fail_json(
                msg=f"systemctl {' '.join(arguments)}: {err.strip() or out.strip()}", journal=journal(unit)
            )
    deadline = time.monotonic() + timeout
    while served and not serves(look(url, *trust), index):
        if time.monotonic() > deadline:
            module.fail_json(
                msg=f"The node was restarted and did not serve again within {timeout} s. Unless it unseals itself "
                "(vault_unseal_shares), unseal it by hand.",
                journal=journal(unit) + journal("vault-unseal.service"),
            )
        time.sleep(EVERY)
    module.exit_json(changed=True, message="The node was restarted" + (" and serves again." if served else "."))


if __name__ == "__main__":
    main()
