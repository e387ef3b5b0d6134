#!/usr/bin/python
"""Initialise a Vault cluster once, without ever losing its keys."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_initialise
short_description: Initialise a Vault cluster once, and keep its keys on the controller
description:
  - Runs on the controller, with C(hvac). Writes to a file (0600), synced to disk, that it is about to initialise
    Vault, then does so, and has the unseal shares and the root token in that file before anything else.
  - Cut off in between, Vault is initialised with keys that nobody has. The next run knows that from the file and
    names the node in RV(reset); the caller empties its storage, which never held anything, and calls again.
  - A cluster that is initialised but not by this file is an error with its remedy. So is one that can't be judged,
    as some of its nodes don't answer and none that does is initialised.
  - Where every node is new though the file holds keys (all machines were made again), the file is kept aside and
    the cluster is initialised afresh.
  - The collections on hand have no module that initialises Vault.
options:
  url:
    description: Addresses of all the cluster's nodes. The first is initialised; the others join it.
    type: list
    elements: str
    required: true
  path:
    description: File of the keys on the controller. Back it up; without it a sealed Vault stays sealed.
    type: path
    required: true
  shares:
    description: Number of unseal shares.
    type: int
    default: 5
  threshold:
    description: How many of them unseal.
    type: int
    default: 3
extends_documentation_fragment: [hashistack.lab.vault_connection]
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Initialise Vault
  hashistack.lab.vault_initialise:
    url: "{{ lab_vault_urls }}"
    ca_cert: "{{ lab_vault_ca_cert }}"
    server_name: "{{ lab_vault_server_name }}"
    path: "{{ lab_vault_directory }}/init.json"
  delegate_to: localhost
  run_once: true
  register: initialised
  no_log: true
"""

RETURN = r"""
unseal_shares:
  description: As many shares as unseal a node; [] in check mode and before there are any.
  type: list
  elements: str
  returned: always
reset:
  description: URLs of nodes whose raft storage must be emptied, since their keys were never kept.
  type: list
  elements: str
  returned: always
message:
  description: What was done or found, in a sentence.
  type: str
  returned: always
"""

import json
import os
import time
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.files import write_private_json
from ansible_collections.hashistack.lab.plugins.module_utils.vault_client import (
    CONNECTION_ARGUMENTS,
    RETRY_EVERY,
    Vault,
    VaultError,
    open_vault,
)


class Decision(NamedTuple):
    """What to do: ``none``, ``initialise``, ``reset`` (nodes of the given URLs) or ``wait``, and why."""

    action: str
    message: str
    nodes: list[str]


def decide(path: str, state: dict[str, Any], nodes: dict[str, dict[str, Any] | None]) -> Decision:
    """Judge a cluster by what each node says (None where it does not answer) and by the file of its keys.

    Raises:
        VaultError: the cluster is not ours to initialise.
    """
    initialised = [url for url, node in nodes.items() if node and node.get("initialized")]
    silent = [url for url, node in nodes.items() if node is None]
    if initialised and state.get("keys"):
        return Decision("none", "Vault is initialised.", [])
    if initialised and state.get("intended"):
        if any(not (nodes[url] or {}).get("sealed") for url in initialised):
            raise VaultError(
                f"Vault is in use, but its keys are not in {path}, where an initialising was begun that never ended. "
                "Someone else has initialised it: put his file of keys there, or remove that file and the machines."
            )
        return Decision("reset", "Vault was initialised by a run that was cut off before it had the keys.", initialised)
    if initialised:
        raise VaultError(
            f"Vault is initialised, but its unseal keys are not in {path}. Copy that file from the controller that "
            "initialised it. If it is lost and Vault's data may go too, stop Vault on its nodes, empty their "
            "/var/lib/vault and run this again."
        )
    if silent:
        return Decision("wait", f"No answer from {', '.join(silent)}.", silent)
    return Decision("initialise", "Vault is new.", [])


def load(path: str) -> dict[str, Any]:
    """The file of keys, {} where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return dict(json.load(stream))
    except FileNotFoundError:
        return {}


def ask(vault: Vault) -> dict[str, dict[str, Any] | None]:
    """What each node says of itself."""
    found: dict[str, dict[str, Any] | None] = {}
    for url in vault.urls:
        try:
            found[url] = vault.status(url)
        except VaultError:
            found[url] = None
    return found


def initialise(vault: Vault, path: str, shares: int, threshold: int) -> dict[str, Any]:
    """Initialise the first node; the file tells before that it will happen and after that what came of it."""
    if load(path).get("keys"):
        aside = f"{path}.{time.strftime('%Y%m%dT%H%M%S')}"
        os.rename(path, aside)
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    write_private_json(path, {"intended": started, "url": vault.urls[0]})
    answer = vault.request("PUT", "sys/init", {"secret_shares": shares, "secret_threshold": threshold})
    state = {
        "initialised": started,
        "threshold": threshold,
        "keys": answer["keys_base64"],
        "root_token": answer["root_token"],
    }
    write_private_json(path, state)
    return state


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "path": {"type": "path", "required": True},
            "shares": {"type": "int", "default": 5},
            "threshold": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    vault = open_vault(module, with_token=False)
    path: str = module.params["path"]
    shares: int = module.params["shares"]
    threshold: int = module.params["threshold"]
    if not (1 <= threshold <= shares and (shares == 1 or threshold > 1)):
        module.fail_json(
            msg=f"{shares} shares of which {threshold} unseal is nothing that Vault can do: 1 of 1, or at least 2."
        )
    deadline = time.monotonic() + (0 if module.check_mode else vault.timeout)
    try:
        state = load(path)
        decision = decide(path, state, ask(vault))
        while decision.action == "wait" and time.monotonic() < deadline:
            time.sleep(RETRY_EVERY)
            decision = decide(path, state, ask(vault))
        if decision.action == "wait" and not module.check_mode:
            module.fail_json(
                msg=f"{decision.message} Vault can't be judged: no node that answers is initialised. "
                "See 'journalctl --unit vault' there."
            )
        if decision.action == "initialise" and not module.check_mode:
            state = initialise(vault, path, shares, threshold)
    except (VaultError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=decision.action != "none",
        reset=decision.nodes if decision.action == "reset" else [],
        message=decision.message,
        unseal_shares=state.get("keys", [])[: state.get("threshold", threshold)],
    )


if __name__ == "__main__":
    main()
