#!/usr/bin/python
"""Generate the lab's secrets once and keep them in one private file on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_store
short_description: Generated secrets in one private file
description:
  - Keeps named random secrets in one JSON file with mode 0600, generates those that are missing, and returns all.
  - The file is replaced in one synced step before anything uses a new secret, so a run that is cut off never leaves
    a secret in use that the controller does not know.
  - The password lookup of ansible.builtin keeps one secret a file and knows neither UUIDs nor keys of a fixed length
    in bytes; one call a secret is slow for dozens of tokens.
options:
  path:
    description: The file.
    type: path
    required: true
  secrets:
    description:
      - Name to kind. C(uuid) is a random UUID (version 4), C(key32) is 32 random bytes in base64,
        C(password) is 32 characters of letters and digits (190 bits).
    type: dict
    default: {}
  absent:
    description: Names to forget.
    type: list
    elements: str
    default: []
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
    details: In check mode, missing secrets are generated for the run and not kept.
"""

EXAMPLES = r"""
- name: Generate the cluster's secrets
  hashistack.lab.secret_store:
    path: "{{ lab_directory }}/secrets.json"
    secrets:
      consul_gossip: key32
      consul_management: uuid
  register: store
  no_log: true
"""

RETURN = r"""
secrets:
  description: All secrets of the file, name to value.
  type: dict
  returned: always
"""

import base64
import json
import os
import secrets as random
import string
import uuid
from collections.abc import Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.files import write_private_json

GENERATORS: dict[str, Callable[[], str]] = {
    "uuid": lambda: str(uuid.uuid4()),
    "key32": lambda: base64.b64encode(random.token_bytes(32)).decode(),
    "password": lambda: "".join(random.choice(string.ascii_letters + string.digits) for _ in range(32)),
}


def update(kept: dict[str, str], wanted: dict[str, str], absent: list[str]) -> dict[str, str]:
    """Return ``kept`` with what is missing of ``wanted`` (name to kind) generated and ``absent`` names taken out."""
    result = {name: value for name, value in kept.items() if name not in absent}
    for name, kind in wanted.items():
        if name not in result:
            result[name] = GENERATORS[kind]()
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "secrets": {"type": "dict", "default": {}, "no_log": False},
            "absent": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    path: str = module.params["path"]
    for name, kind in module.params["secrets"].items():
        if kind not in GENERATORS:
            module.fail_json(msg=f"secrets.{name} is '{kind}'; write one of {', '.join(sorted(GENERATORS))}.")
    kept: dict[str, str] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            kept = json.load(stream)
    result = update(kept, module.params["secrets"], module.params["absent"])
    if result != kept and not module.check_mode:
        write_private_json(path, result)
    module.exit_json(changed=result != kept, secrets=result)


if __name__ == "__main__":
    main()
