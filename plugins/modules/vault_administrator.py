#!/usr/bin/python
"""Keep an administrator's token of Vault on the controller, and no root token anywhere."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_administrator
short_description: Keep an administrator's token on the controller and revoke the root token
description:
  - Runs on the controller, with C(hvac). Renews the token in O(token_file) if it is good.
  - If it is not there, expired or revoked, takes the root token, which M(hashistack.lab.vault_initialise) left in
    O(keys_file), or generates a new one from the unseal shares there; enables the audit devices, so that there is a
    log from the first minute; writes the policy; creates an orphan periodic token, so that revoking root does not take
    it along; has it on disk, and only then revokes root and forgets it. Cut off anywhere, the next run goes on.
  - The collections on hand have no module for any of this.
options:
  keys_file:
    description: File of M(hashistack.lab.vault_initialise) with the unseal shares.
    type: path
    required: true
  token_file:
    description: File of the administrator's token (0600).
    type: path
    required: true
  policy:
    description: Name of the administrator's policy.
    type: str
    default: administrator
  policy_rules:
    description: Its rules.
    type: str
    required: true
  period:
    description: The token dies when it is not renewed for this long; each run renews it.
    type: str
    default: 768h
  audit_devices:
    description: Audit devices, each a path such as V(file) with its fields C(type) and C(options).
    type: dict
    default: {}
extends_documentation_fragment: [hashistack.lab.vault_connection]
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Keep the administrator's token, and no root token
  hashistack.lab.vault_administrator:
    url: "{{ lab_vault_urls }}"
    ca_cert: "{{ lab_vault_ca_cert }}"
    server_name: "{{ lab_vault_server_name }}"
    keys_file: "{{ lab_vault_directory }}/init.json"
    token_file: "{{ lab_vault_directory }}/token"
    policy_rules: 'path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }'
    audit_devices:
      file: { type: file, options: { file_path: /var/log/vault/audit.log } }
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
actions:
  description: What was done, in order.
  type: list
  elements: str
  returned: always
"""

import base64
import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.files import write_private, write_private_json
from ansible_collections.hashistack.lab.plugins.module_utils.vault_client import (
    CONNECTION_ARGUMENTS,
    TOKEN_ARGUMENTS,
    Vault,
    VaultError,
    open_vault,
    read_token,
)


def good(vault: Vault, token: str) -> dict[str, Any]:
    """What Vault knows of a token, {} if it is no good."""
    vault.token = token
    try:
        return dict(vault.request("GET", "auth/token/lookup-self")["data"]) if token else {}
    except VaultError as error:
        if error.status in (400, 403):
            return {}
        raise


def decode_token(encoded: str, otp: str) -> str:
    """Undo generate-root's one-time pad.

    >>> decode_token("Fg4a", "abc")
    'wly'
    """
    data = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    return bytes(one ^ other for one, other in zip(data, otp.encode(), strict=True)).decode()


def generate_root(vault: Vault, keys: list[str]) -> str:
    """A new root token from the unseal shares."""
    vault.token = ""
    vault.delete("sys/generate-root/attempt")
    attempt = vault.request("PUT", "sys/generate-root/attempt", {})
    for key in keys[: attempt["required"]]:
        answer = vault.request("PUT", "sys/generate-root/update", {"key": key, "nonce": attempt["nonce"]})
        if answer["complete"]:
            return decode_token(answer["encoded_token"], attempt["otp"])
    raise VaultError(f"Vault wants {attempt['required']} unseal shares for a new root token; there are {len(keys)}.")


def root_token(vault: Vault, keys_file: str, state: dict[str, Any]) -> str:
    """A root token: the one that is still in the file of keys, or a new one, which is put there first."""
    if good(vault, state.get("root_token", "")):
        return str(state["root_token"])
    if not state.get("keys"):
        raise VaultError(
            f"The administrator's token is not good any more, and {keys_file} has no unseal shares for a new one. "
            "Copy that file from the controller that initialised Vault."
        )
    state["root_token"] = generate_root(vault, state["keys"])
    write_private_json(keys_file, state)
    return str(state["root_token"])


def make_token(vault: Vault, policy: str, rules: str, period: str, audit_devices: dict[str, Any]) -> str:
    """With a root token: the audit devices, the policy, then an administrator's token."""
    answer = vault.request("GET", "sys/audit")
    enabled = answer.get("data") or answer
    for name, device in audit_devices.items():
        if f"{name}/" not in enabled:
            vault.request("PUT", f"sys/audit/{name}", device)
    vault.request("PUT", f"sys/policies/acl/{policy}", {"policy": rules})
    made = vault.write(
        "auth/token/create-orphan", {"policies": [policy], "period": period, "display_name": policy, "renewable": True}
    )
    return str(made["auth"]["client_token"])


def run(vault: Vault, params: dict[str, Any], *, check: bool) -> list[str]:
    """Do what the module's documentation says; what was done, or would be in check mode."""
    keys_file: str = params["keys_file"]
    token_file: str = params["token_file"]
    try:
        with open(keys_file, encoding="utf-8") as stream:
            state = dict(json.load(stream))
    except FileNotFoundError:
        state = {}
    try:
        token = read_token(token_file)
    except VaultError:
        token = ""
    actions = []
    if good(vault, token):
        if not check:
            vault.write("auth/token/renew-self", {})
    else:
        actions.append("create the administrator's token")
        if not check:
            vault.token = root_token(vault, keys_file, state)
            token = make_token(
                vault, params["policy"], params["policy_rules"], params["period"], params["audit_devices"]
            )
            write_private(token_file, (token + "\n").encode())
    if state.get("root_token") or actions:
        actions.append("revoke the root token")
        if not check:
            if good(vault, state.get("root_token", "")):
                vault.write("auth/token/revoke-self")
            state.pop("root_token", None)
            write_private_json(keys_file, state)
    return actions


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **TOKEN_ARGUMENTS,
            "keys_file": {"type": "path", "required": True, "no_log": False},
            "policy": {"type": "str", "default": "administrator"},
            "policy_rules": {"type": "str", "required": True},
            "period": {"type": "str", "default": "768h"},
            "audit_devices": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    vault = open_vault(module, with_token=False)
    try:
        actions = run(vault, module.params, check=module.check_mode)
    except (VaultError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
