#!/usr/bin/python
"""Tell whether Vault can administer a database, and what a key-value secret holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_vault_info
short_description: What a playbook must know of Vault before it declares database credentials
description:
  - Tells whether a connection of the database engine works, by letting Vault open it anew with the password it holds.
    A run that was cut off between setting an administrator's password and telling Vault shows here, and nowhere else.
  - Tells what a key-value secret (version 2) holds.
  - Runs on the controller, with C(hvac). Changes nothing. The task should set C(no_log).
options:
  mount:
    description: Where the database engine is mounted.
    type: str
    default: database
  connection:
    description: Name of the connection.
    type: str
    required: true
  secret:
    description: API path of the secret, such as V(secret/data/db).
    type: str
    required: true
extends_documentation_fragment: [hashistack.lab.vault_connection, hashistack.lab.vault_connection.token]
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Learn what Vault knows of the database
  hashistack.lab.database_vault_info:
    url: "{{ lab_vault_urls }}"
    ca_cert: "{{ lab_vault_ca_cert }}"
    server_name: "{{ lab_vault_server_name }}"
    token_file: "{{ lab_vault_token_file }}"
    connection: lab
    secret: secret/data/db
  delegate_to: localhost
  run_once: true
  no_log: true
  register: __vault
"""

RETURN = r"""
administers:
  description: Whether Vault could log in to the database with the password it holds.
  type: bool
  returned: always
reason:
  description: Why not.
  type: str
  returned: always
secret:
  description: The secret's fields, empty where there is none.
  type: dict
  returned: always
version:
  description: The secret's version, 0 where there is none.
  type: int
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


def administers(vault: Vault, mount: str, connection: str) -> tuple[bool, str]:
    """Whether Vault can log in to the database, and why not. Raises VaultError when Vault itself does not serve."""
    try:
        if vault.read(f"{mount}/config/{connection}") is None:
            return False, "Vault does not know the connection yet"
    except VaultError as error:
        if error.status in (400, 403, 404) and "no handler" in str(error):
            return False, "Vault has no database engine yet"
        raise
    # A database that is away passes; a password that is wrong does not, and is no reason to wait.
    patience, vault.timeout = vault.timeout, 0
    try:
        vault.write(f"{mount}/reset/{connection}")
    except VaultError as error:
        if error.status == 0:
            raise
        return False, "Vault's login to the database failed"
    finally:
        vault.timeout = patience
    return True, ""


def read_secret(vault: Vault, path: str) -> tuple[dict[str, Any], int]:
    """Fields and version of a key-value secret, version 2."""
    try:
        answer = (vault.read(path) or {}).get("data") or {}
    except VaultError as error:
        if error.status in (400, 403, 404) and "no handler" in str(error):
            return {}, 0
        raise
    return dict(answer.get("data") or {}), int((answer.get("metadata") or {}).get("version") or 0)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **TOKEN_ARGUMENTS,
            "mount": {"type": "str", "default": "database"},
            "connection": {"type": "str", "required": True},
            "secret": {"type": "str", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    vault = open_vault(module)
    try:
        usable, reason = administers(vault, module.params["mount"], module.params["connection"])
        secret, version = read_secret(vault, module.params["secret"])
    except VaultError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, administers=usable, reason=reason, secret=secret, version=version)


if __name__ == "__main__":
    main()
