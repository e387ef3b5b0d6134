#!/usr/bin/python
"""Tries whether a machine reaches others at their ports."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_reach
short_description: Whether a machine reaches others at their ports
description: Connects to each, all at once, and says in a sentence with its remedy which it does not reach.
options:
  name:
    description: The machine's name, for the sentences.
    type: str
    required: true
  targets:
    description:
      - Each with C(name), C(address), C(port), C(service) and C(udp). C(listens) is whether something answers there
        now; where nothing needs to, a refusal is reached as well.
    type: list
    elements: dict
    required: true
  timeout:
    description: Seconds to wait for an answer.
    type: float
    default: 3
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Try the way to the database
  hashistack.lab.host_reach:
    name: web-1
    targets: [{ name: db-1, address: 192.0.2.21, port: 5432, service: postgresql, udp: false, listens: true }]
"""

RETURN = r"""
problems:
  description: Sentences.
  type: list
  returned: always
"""

import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

UDP_TRIES = 3


def failure(target: dict[str, Any], timeout: float) -> str:
    """Why a target is not reached; empty where it is."""
    where = (target["address"], int(target["port"]))
    try:
        if not target["udp"]:
            with socket.create_connection(where, timeout=timeout):
                return ""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(timeout / UDP_TRIES)
            one.connect(where)
            for number in range(UDP_TRIES):
                try:
                    one.send(b"?")
                    one.recv(64)
                    return ""
                except TimeoutError:
                    if number == UDP_TRIES - 1:
                        # What serves there already answers no stranger.
                        return "no answer" if target["listens"] else ""
    except OSError as error:
        if error.errno == errno.ECONNREFUSED and not target["listens"]:
            return ""
        return "no answer" if isinstance(error, TimeoutError) else str(error.strerror or error).lower()
    return ""


def sentence(name: str, target: dict[str, Any], why: str) -> str:
    """What is wrong, and what to do."""
    kind = "udp" if target["udp"] else "tcp"
    return (
        f"{name} does not reach {target['name']} ({target['address']}) at {kind} port {target['port']} of "
        f"{target['service']} ({why}): let it through the firewalls between them, or see the route."
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "targets": {"type": "list", "elements": "dict", "required": True},
            "timeout": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    targets: list[dict[str, Any]] = module.params["targets"]
    with ThreadPoolExecutor(max_workers=32) as pool:
        results = list(pool.map(lambda target: failure(target, module.params["timeout"]), targets))
    name = module.params["name"]
    problems = [sentence(name, target, why) for target, why in zip(targets, results, strict=True) if why]
    module.exit_json(changed=False, problems=problems)


if __name__ == "__main__":
    main()
