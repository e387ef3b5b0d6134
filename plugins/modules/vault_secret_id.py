#!/usr/bin/python
"""Take a wrapped SecretID on the machine that it is for, and keep it as an encrypted credential."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_secret_id
short_description: Unwrap an AppRole's SecretID on its machine and keep it encrypted
description:
  - Runs on the machine, with the standard library. Without O(wrapping_token) it only tells the accessor of the
    SecretID that the machine holds (RV(accessor)), "" if it has none that it can decrypt, for
    M(hashistack.lab.vault_approle) to judge.
  - With O(wrapping_token) it makes sure that the token wraps a SecretID of the role, unwraps it, and keeps it as an
    encrypted credential of systemd, beside its accessor. So the SecretID crosses the controller only wrapped, works
    once, and a theft of the wrapping token shows as an error here.
options:
  path:
    description: Where the encrypted credential stands; the accessor stands beside it with C(.accessor) added.
    type: path
    required: true
  name:
    description: Name of the credential, which the unit must use too.
    type: str
    default: secret_id
  url:
    description: Address of Vault; needed with O(wrapping_token).
    type: str
    default: ""
  ca_cert:
    description: CA of Vault's certificate, on the machine; needed with O(wrapping_token).
    type: path
    default: ""
  role:
    description: Path of the AppRole that the SecretID must be of, such as C(auth/approle/role/web).
    type: str
    default: ""
  wrapping_token:
    description: Token that unwraps the SecretID; "" to look only.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for Vault.
    type: int
    default: 60
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: See which SecretID the machine holds
  hashistack.lab.vault_secret_id:
    path: /etc/vault-agent.d/secret_id.cred
  register: held

- name: Unwrap the new one
  hashistack.lab.vault_secret_id:
    path: /etc/vault-agent.d/secret_id.cred
    url: https://vault.service.consul:8200
    ca_cert: /etc/vault-agent.d/ca.pem
    role: auth/approle/role/web
    wrapping_token: "{{ approles.roles.web.wrapping_token }}"
  no_log: true
"""

RETURN = r"""
accessor:
  description: Accessor of the SecretID that the machine holds, "" for none.
  type: str
  returned: always
"""

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.encrypted_credential import (
    CredentialError,
    read_credential,
    write_credential,
    write_root_only,
)
from ansible_collections.hashistack.lab.plugins.module_utils.http_api import RequestError, ask

# Seconds between two tries.
EVERY = 0.5


def held_accessor(path: str, name: str) -> str:
    """Accessor of the SecretID that the machine holds and can decrypt."""
    try:
        with open(f"{path}.accessor", encoding="utf-8") as stream:
            accessor = stream.read().strip()
    except FileNotFoundError:
        return ""
    return accessor if accessor and read_credential(path, name) else ""


def unwrap(url: str, ca_cert: str, token: str, role: str, timeout: float) -> dict[str, Any]:
    """The wrapped SecretID and its accessor.

    Raises:
        RequestError: Vault did not answer in time, or the token wraps something else or nothing any more.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            lookup = ask(url, "sys/wrapping/lookup", ca_cert=ca_cert, method="POST", data={"token": token})
            break
        except RequestError as error:
            if error.status in (400, 403, 404) or time.monotonic() > deadline:
                raise
            time.sleep(EVERY)
    created_by = str(lookup["data"]["creation_path"])
    if created_by != f"{role}/secret-id":
        raise RequestError(f"The wrapping token comes from {created_by}, not from {role}/secret-id; it is not used.")
    headers = {"X-Vault-Token": token}
    return dict(ask(url, "sys/wrapping/unwrap", ca_cert=ca_cert, method="POST", data={}, headers=headers)["data"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "name": {"type": "str", "default": "secret_id"},
            "url": {"type": "str", "default": ""},
            "ca_cert": {"type": "path", "default": ""},
            "role": {"type": "str", "default": ""},
            "wrapping_token": {"type": "str", "default": "", "no_log": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    path: str = params["path"]
    token: str = params["wrapping_token"]
    if not token:
        module.exit_json(changed=False, accessor=held_accessor(path, params["name"]))
    absent = [name for name in ("url", "ca_cert", "role") if not params[name]]
    if absent:
        module.fail_json(msg=f"A wrapping token needs {', '.join(absent)} too.")
    if module.check_mode:
        module.exit_json(changed=True, accessor="")
    try:
        secret = unwrap(params["url"], params["ca_cert"], token, params["role"], params["timeout"])
        if os.path.exists(f"{path}.accessor"):
            os.unlink(f"{path}.accessor")
        write_credential(path, params["name"], secret["secret_id"].encode())
        write_root_only(f"{path}.accessor", f"{secret['secret_id_accessor']}\n".encode())
    except (RequestError, CredentialError, OSError) as error:
        module.fail_json(
            msg=f"The SecretID could not be unwrapped: {error}. If nobody ran this at the same time, someone else may "
            "have used the wrapping token; the next run destroys its SecretID and issues another."
        )
    module.exit_json(changed=True, accessor=secret["secret_id_accessor"])


if __name__ == "__main__":
    main()
