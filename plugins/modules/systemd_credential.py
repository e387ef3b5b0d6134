#!/usr/bin/python
"""Keep a secret on a host as a systemd encrypted credential."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_credential
short_description: Keep a secret on a host as an encrypted credential of systemd
description:
  - Encrypts a secret with C(systemd-creds) for this machine alone (the host key, and the TPM where there is one),
    for a unit to load with C(LoadCredentialEncrypted=). A credential that holds the secret already stays as it is;
    one that this machine can't decrypt, such as a copy of another's disk, is replaced.
  - C(community.general.systemd_creds_encrypt) returns the ciphertext, which differs each time, and writes nothing,
    so that a second run could not tell whether anything changed.
options:
  name:
    description: Name of the credential, which the unit must use too.
    type: str
    required: true
  path:
    description: Where the encrypted file stands; its folder exists.
    type: path
    required: true
  secret:
    description: The secret.
    type: str
    required: true
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Keep the unseal shares
  hashistack.lab.systemd_credential:
    name: shares
    path: /etc/vault.d/unseal.cred
    secret: "{{ vault_unseal_shares | join('\n') }}"
  no_log: true
"""

RETURN = r""" # """

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.encrypted_credential import (
    CredentialError,
    read_credential,
    write_credential,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "secret": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    path: str = module.params["path"]
    name: str = module.params["name"]
    secret: bytes = module.params["secret"].encode()
    if read_credential(path, name) == secret:
        module.exit_json(changed=False)
    if not module.check_mode:
        if not os.path.isdir(os.path.dirname(path)):
            module.fail_json(msg=f"The folder of {path} does not exist.")
        try:
            write_credential(path, name, secret)
        except (CredentialError, OSError) as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
