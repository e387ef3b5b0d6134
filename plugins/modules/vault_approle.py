#!/usr/bin/python
"""Issue wrapped SecretIDs for AppRoles, one each, and remove AppRoles with all that they left in Vault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_approle
short_description: Issue SecretIDs to machines, and take away all that a machine had
description:
  - Runs on the controller, with C(hvac). The AppRoles themselves are made by M(hashistack.lab.vault_objects).
  - With O(state=present), sees whether the SecretID that a machine holds (known by its accessor, which is no secret)
    is still good. If so, all other SecretIDs of the role are destroyed; if not, all are, and a new one is issued,
    wrapped, for M(hashistack.lab.vault_secret_id) to unwrap on the machine. So a role has one SecretID, and a machine
    that was made again gets a new one.
  - With O(state=absent), destroys the role's SecretIDs, its tokens (and so their leases), its entity and itself.
  - The collections on hand have no module for AppRoles.
options:
  mount:
    description: Path of the AppRole auth method.
    type: str
    default: approle
  roles:
    description: Name of each role, with the accessor of the SecretID that its machine holds, or "".
    type: dict
    required: true
  wrap_ttl:
    description: How long a wrapped SecretID waits to be unwrapped.
    type: str
    default: 300s
  state:
    description: Whether machines shall be able to log in.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment: [hashistack.lab.vault_connection, hashistack.lab.vault_connection.token]
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Issue a SecretID to each machine that has none
  hashistack.lab.vault_approle:
    url: "{{ lab_vault_urls }}"
    ca_cert: "{{ lab_vault_ca_cert }}"
    server_name: "{{ lab_vault_server_name }}"
    token_file: "{{ lab_vault_token_file }}"
    roles: { backend-1: "7ca9d1e1-...", backend-2: "" }
  delegate_to: localhost
  run_once: true
  no_log: true
  register: approles

- name: Forget a machine
  hashistack.lab.vault_approle:
    url: "{{ lab_vault_urls }}"
    ca_cert: "{{ lab_vault_ca_cert }}"
    server_name: "{{ lab_vault_server_name }}"
    token_file: "{{ lab_vault_token_file }}"
    roles: { backend-3: "" }
    state: absent
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
roles:
  description: >-
    For each role C(role_id) and C(wrapping_token), which is "" where the machine's SecretID is good; secret, so
    the task needs C(no_log).
  type: dict
  returned: when state is present
actions:
  description: What was done, in sentences.
  type: list
  elements: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.vault_client import (
    CONNECTION_ARGUMENTS,
    TOKEN_ARGUMENTS,
    Vault,
    VaultError,
    open_vault,
)


def destroy_others(vault: Vault, base: str, role: str, keep: str, *, check: bool) -> list[str]:
    """Destroy the role's SecretIDs but one; what was done."""
    others = [accessor for accessor in vault.list(f"{base}/secret-id") if accessor != keep]
    if not check:
        for accessor in others:
            vault.write(f"{base}/secret-id-accessor/destroy", {"secret_id_accessor": accessor})
    return [f"destroy {len(others)} other SecretIDs of {role}"] if others else []


def issue(
    vault: Vault, mount: str, role: str, accessor: str, wrap_ttl: str, *, check: bool
) -> tuple[dict[str, str], list[str]]:
    """The role's ID and, unless the machine's SecretID is good, a wrapped new one; what was done."""
    base = f"auth/{mount}/role/{role}"
    answer = vault.read(f"{base}/role-id")
    if answer is None:
        if check:
            return {"role_id": "", "wrapping_token": ""}, [f"issue a SecretID for {role}"]
        raise VaultError(f"There is no AppRole {role} at {mount}; make it with vault_objects first.")
    result = {"role_id": str(answer["data"]["role_id"]), "wrapping_token": ""}
    is_good = bool(accessor) and accessor in vault.list(f"{base}/secret-id")
    actions = destroy_others(vault, base, role, accessor if is_good else "", check=check)
    if not is_good:
        actions.append(f"issue a SecretID for {role}")
        if not check:
            result["wrapping_token"] = str(
                vault.write(f"{base}/secret-id", {}, wrap_ttl=wrap_ttl)["wrap_info"]["token"]
            )
    return result, actions


def tokens_of(vault: Vault, mount: str, role: str) -> list[str]:
    """Accessors of the tokens with which a role's machines are logged in."""
    found = []
    for accessor in vault.list("auth/token/accessors"):
        try:
            data = vault.write("auth/token/lookup-accessor", {"accessor": accessor})["data"]
        except VaultError as error:
            if error.status in (400, 403, 404):
                continue  # it has expired since
            raise
        if str(data.get("path")) == f"auth/{mount}/login" and (data.get("meta") or {}).get("role_name") == role:
            found.append(accessor)
    return found


def remove(vault: Vault, mount: str, role: str, *, check: bool) -> list[str]:
    """Remove a role with its SecretIDs, tokens and entity; what was done. Works again where it was cut off.

    The role goes last, since its ID leads to the entity. The order keeps the machine from logging in again meanwhile:
    first its SecretIDs, then its tokens.
    """
    base = f"auth/{mount}/role/{role}"
    answer = vault.read(f"{base}/role-id")
    actions = destroy_others(vault, base, role, "", check=check) if answer else []
    tokens = tokens_of(vault, mount, role)
    if tokens:
        actions.append(f"revoke {len(tokens)} tokens of {role}")
    if not check:
        for accessor in tokens:
            vault.write("auth/token/revoke-accessor", {"accessor": accessor})
    if answer:
        mounts = vault.request("GET", "sys/auth")
        alias = {
            "alias_name": answer["data"]["role_id"],
            "alias_mount_accessor": (mounts.get("data") or mounts)[f"{mount}/"]["accessor"],
        }
        entity = vault.write("identity/lookup/entity", alias).get("data")
        if entity:
            actions.append(f"delete the entity of {role}")
        actions.append(f"delete the role {role}")
        if not check:
            if entity:
                vault.delete(f"identity/entity/id/{entity['id']}")
            vault.delete(base)
    return actions


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **TOKEN_ARGUMENTS,
            "mount": {"type": "str", "default": "approle"},
            "roles": {"type": "dict", "required": True},
            "wrap_ttl": {"type": "str", "default": "300s"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    mount: str = module.params["mount"]
    check: bool = module.check_mode
    roles: dict[str, str] = {name: str(value or "") for name, value in module.params["roles"].items()}
    actions: list[str] = []
    result: dict[str, Any] = {"roles": {}}
    unborn = {"roles": {name: {"role_id": "", "wrapping_token": ""} for name in roles}, "actions": []}
    vault = open_vault(module, unborn=unborn)
    try:
        for role, accessor in roles.items():
            if module.params["state"] == "absent":
                actions += remove(vault, mount, role, check=check)
                continue
            result["roles"][role], done = issue(vault, mount, role, accessor, module.params["wrap_ttl"], check=check)
            actions += done
    except VaultError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(actions), actions=actions, **result)


if __name__ == "__main__":
    main()
