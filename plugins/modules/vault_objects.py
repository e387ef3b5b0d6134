#!/usr/bin/python
"""Declare what Vault holds: mounts, audit devices, policies, roles, connections, seeded secrets, plugins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_objects
short_description: Declare objects in Vault by their API paths
description:
  - Reads each path of Vault's API, compares the fields given here with what Vault answers, and writes an object
    only where it differs. Fields that are not given are left as they are.
  - Durations (V(1h) and 3600), lists (a string, comma-separated or one element), CIDRs (with or without V(/32)),
    booleans and numbers as strings compare as equal.
  - One call takes many objects, in the order in which they need each other; one connection serves them all.
  - "What the collections on hand lack: community.hashi_vault's C(vault_write) reports a change each time and its
    C(vault_database_*) modules have no check mode that compares; none knows mounts, audit devices, policies,
    AppRoles or the plugin catalogue."
  - Runs on the controller, with C(hvac). The task should set C(no_log) where data holds a secret; results here
    name paths and fields, never values.
options:
  objects:
    description: The objects.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - API path without C(/v1/), such as C(sys/mounts/secret), C(sys/auth/approle), C(sys/audit/file),
            C(sys/policies/acl/NAME), C(sys/plugins/catalog/database/NAME), C(auth/approle/role/NAME),
            C(database/config/NAME), C(database/roles/NAME), C(secret/data/NAME).
        type: str
        required: true
      state:
        description:
          - V(present), the object exists with O(objects[].data).
          - V(absent), it does not exist. For a key-value secret, version 2, all its versions go.
          - V(revoked), no lease exists whose ID begins with O(objects[].path), such as C(database/creds/NAME).
          - V(written), O(objects[].data) is written each time, for what is an action, such as
            C(database/rotate-root/NAME); always a change.
        type: str
        choices: [present, absent, revoked, written]
        default: present
      data:
        description: Its fields.
        type: dict
        default: {}
      write_only:
        description:
          - Names of fields that are sent whenever the object is written, but never compared, such as C(password)
            and C(verify_connection), which Vault does not return.
        type: list
        elements: str
        default: []
      initial:
        description: Names of fields that are sent only when the object is new, such as a password rotated later.
        type: list
        elements: str
        default: []
      create_only:
        description:
          - An object that exists stays as it is, whatever it holds. A key-value secret is seeded with cas=0, so
            that not even two runs at once overwrite what an operator has put.
        type: bool
        default: false
      force:
        description: With O(objects[].state=revoked), forget leases that can't be revoked, as the database is gone.
        type: bool
        default: false
extends_documentation_fragment: [hashistack.lab.vault_connection, hashistack.lab.vault_connection.token]
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Give the application its database role and its settings
  hashistack.lab.vault_objects:
    url: "{{ vault_api_urls }}"
    ca_cert: "{{ vault_api_ca_cert }}"
    server_name: vault.service.consul
    token_file: "{{ vault_api_token_file }}"
    objects:
      - path: sys/mounts/database
        data: { type: database, config: { max_lease_ttl: 24h } }
      - path: database/config/lab
        data:
          plugin_name: postgresql-database-plugin
          connection_url: "postgresql://{% raw %}{{username}}:{{password}}{% endraw %}@postgresql.service.consul/lab"
          allowed_roles: [app]
          username: vault
          password: "{{ initial_password }}"
        initial: [password]
      - path: database/roles/app
        data:
          db_name: lab
          default_ttl: 1h
          creation_statements: ["CREATE ROLE \"{% raw %}{{name}}{% endraw %}\" ..."]
      - path: secret/data/app
        data: { greeting: Hello }
        create_only: true
      - path: auth/approle/role/old
        state: absent
  delegate_to: localhost
  run_once: true
  no_log: true
"""

RETURN = r"""
changed_paths:
  description: Paths of the objects that changed, in order.
  type: list
  elements: str
  returned: always
reasons:
  description: For each of these, why, by field names.
  type: dict
  returned: always
"""

import re
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.vault_client import (
    CONNECTION_ARGUMENTS,
    TOKEN_ARGUMENTS,
    Vault,
    VaultError,
    open_vault,
)

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Lists in which order has no meaning.
UNORDERED = re.compile(r"(policies|cidrs|cidr_list|roles|keys)$")
# Options of a mount that can be changed later, at its /tune.
TUNABLE = (
    "default_lease_ttl",
    "max_lease_ttl",
    "listing_visibility",
    "audit_non_hmac_request_keys",
    "audit_non_hmac_response_keys",
    "passthrough_request_headers",
    "allowed_response_headers",
    "token_type",
)


class Change(NamedTuple):
    """A request that would bring an object to its wanted state, and why."""

    reason: str
    method: str
    path: str
    data: dict[str, Any] | None = None


def seconds(value: Any) -> int | None:
    """A duration of Vault's in seconds, None for what is not one.

    >>> seconds("1h30m"), seconds("90"), seconds(60), seconds("app")
    (5400, 90, 60, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if not isinstance(value, str):
        return None
    if value.isdigit():
        return int(value)
    parts = re.findall(r"(\d+)([smhd])", value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        return None
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def as_list(value: Any) -> list[str]:
    """A list of strings from what Vault takes or gives as one: a list, a comma-separated string, None."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [str(part).strip() for part in value]


def same(wanted: Any, actual: Any, field: str = "") -> bool:
    """Whether a field's wanted value is what Vault answered, in whatever form.

    >>> same("1h", 3600), same(["a"], "a"), same(["b", "a"], ["a", "b"], "policies"), same(True, "true")
    (True, True, True, True)
    """
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(same(value, actual.get(key), key) for key, value in wanted.items())
    if isinstance(wanted, list) or isinstance(actual, list):
        if isinstance(wanted, str) and actual == [wanted]:
            return True
        one, other = as_list(wanted), as_list(actual)
        if "cidr" in field:
            one, other = ([re.sub(r"/(32|128)$", "", part) for part in side] for side in (one, other))
        return sorted(one) == sorted(other) if UNORDERED.search(field) else one == other
    if wanted is None or wanted == "":
        return actual in (None, "", [], {})
    if isinstance(wanted, bool) or isinstance(actual, bool):
        return str(wanted).lower() == str(actual).lower()
    wanted_seconds, actual_seconds = seconds(wanted), seconds(actual)
    if wanted_seconds is not None and actual_seconds is not None:
        return wanted_seconds == actual_seconds
    return str(wanted).strip() == str(actual if actual is not None else "").strip()


def differing(wanted: dict[str, Any], actual: dict[str, Any], skipped: list[str]) -> list[str]:
    """Names of the wanted fields that Vault holds otherwise."""
    return sorted(
        field for field, value in wanted.items() if field not in skipped and not same(value, actual.get(field), field)
    )


def without(data: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """The data less some fields."""
    return {field: value for field, value in data.items() if field not in fields}


def kind_of(path: str) -> str:
    """What API a path belongs to.

    >>> kind_of("sys/mounts/secret"), kind_of("secret/data/app"), kind_of("database/roles/app")
    ('mount', 'kv2', 'plain')
    """
    for prefix, kind in (
        ("sys/mounts/", "mount"),
        ("sys/auth/", "mount"),
        ("sys/audit/", "audit"),
        ("sys/plugins/catalog/", "plugin"),
    ):
        if path.startswith(prefix):
            return kind
    if not path.startswith(("sys/", "auth/")) and "/data/" in path:
        return "kv2"
    return "plain"


def mount_changes(vault: Vault, item: dict[str, Any]) -> list[Change]:
    """A secrets engine or an auth method: made once, then tuned; another type is an error."""
    path, data = item["path"], item["data"]
    answer = vault.request("GET", path.split("/", 2)[0] + "/" + path.split("/", 2)[1])
    mounts = answer.get("data") or answer
    actual = mounts.get(path.split("/", 2)[2].rstrip("/") + "/")
    if item["state"] == "absent":
        return [Change("it exists", "DELETE", path)] if actual else []
    if not actual:
        return [Change("it does not exist", "POST", path, data)]
    if item["create_only"]:
        return []
    if data.get("type", actual["type"]) != actual["type"]:
        raise VaultError(
            f"{path} is of type {actual['type']}, not {data['type']}. Vault can't change that: remove it "
            "(state: absent, which deletes what it holds) or choose another path."
        )
    config = data.get("config", {})
    unknown = sorted(set(config) - set(TUNABLE))
    if unknown:
        raise VaultError(f"{path}: config.{', config.'.join(unknown)} can't be tuned; known: {', '.join(TUNABLE)}.")
    fields = differing(config, actual.get("config") or {}, item["write_only"])
    tuning: dict[str, Any] = {field: config[field] for field in fields}
    for field in ("description", "options"):
        if field in data and not same(data[field], actual.get(field), field):
            tuning[field] = data[field]
            fields.append(field)
    return [Change(f"differs in {', '.join(fields)}", "POST", f"{path}/tune", tuning)] if fields else []


def audit_changes(vault: Vault, item: dict[str, Any]) -> list[Change]:
    """An audit device, which can't be changed in place: disabled and enabled again."""
    path, data = item["path"], item["data"]
    answer = vault.request("GET", "sys/audit")
    actual = (answer.get("data") or answer).get(path.split("/", 2)[2].rstrip("/") + "/")
    if item["state"] == "absent":
        return [Change("it exists", "DELETE", path)] if actual else []
    if not actual:
        return [Change("it does not exist", "PUT", path, data)]
    fields = [] if item["create_only"] else differing(data, actual, item["write_only"])
    if not fields:
        return []
    reason = f"differs in {', '.join(fields)}"
    return [Change(reason, "DELETE", path), Change(reason, "PUT", path, data)]


def kv2_changes(vault: Vault, item: dict[str, Any]) -> list[Change]:
    """A secret of the key-value engine, version 2."""
    path = item["path"]
    metadata = path.replace("/data/", "/metadata/", 1)
    if item["state"] == "absent":
        return [Change("it exists", "DELETE", metadata)] if vault.read(metadata) else []
    history = (vault.read(metadata) or {}).get("data") or {}
    version = int(history.get("current_version") or 0)
    if item["create_only"]:
        seed = {"data": item["data"], "options": {"cas": 0}}
        return [] if version else [Change("it does not exist", "POST", path, seed)]
    actual = ((vault.read(path) or {}).get("data") or {}).get("data") or {} if version else {}
    fields = [
        field for field, value in item["data"].items() if field not in item["write_only"] and value != actual.get(field)
    ]
    if not fields and version and actual:
        return []
    reason = f"differs in {', '.join(sorted(fields))}" if version else "it does not exist"
    merged = {**actual, **(item["data"] if not actual else without(item["data"], item["initial"]))}
    return [Change(reason, "POST", path, {"data": merged, "options": {"cas": version}})]


def plain_changes(vault: Vault, item: dict[str, Any]) -> list[Change]:
    """Any object that answers GET with the fields that POST takes, and DELETE."""
    path, data = item["path"], item["data"]
    answer = vault.read(path)
    if item["state"] == "absent":
        return [Change("it exists", "DELETE", path)] if answer else []
    if answer is None:
        return [Change("it does not exist", "POST", path, data)]
    if item["create_only"]:
        return []
    actual = dict(answer.get("data") or {})
    # The database engine keeps what a plugin was given in a map of its own.
    actual = {**actual, **(actual.get("connection_details") or {})}
    fields = differing(data, actual, item["write_only"] + item["initial"])
    return [Change(f"differs in {', '.join(fields)}", "POST", path, without(data, item["initial"]))] if fields else []


def has_leases(vault: Vault, prefix: str) -> bool:
    """Whether a lease exists whose ID begins with the prefix, at any depth."""
    return any(
        not key.endswith("/") or has_leases(vault, f"{prefix}/{key.rstrip('/')}")
        for key in vault.list(f"sys/leases/lookup/{prefix}")
    )


def changes(vault: Vault, item: dict[str, Any]) -> list[Change]:
    """The requests that bring an object to its wanted state; [] where it is."""
    path = item["path"].strip("/")
    item = {**item, "path": path}
    if item["state"] == "written":
        return [Change("it is written each time", "POST", path, item["data"])]
    if item["state"] == "revoked":
        verb = "revoke-force" if item["force"] else "revoke-prefix"
        found = has_leases(vault, path)
        data = None if item["force"] else {"sync": True}
        return [Change("leases exist", "PUT", f"sys/leases/{verb}/{path}", data)] if found else []
    handlers = {"mount": mount_changes, "audit": audit_changes, "kv2": kv2_changes}
    return handlers.get(kind_of(path), plain_changes)(vault, item)


def apply(vault: Vault, items: list[dict[str, Any]], *, check: bool) -> dict[str, str]:
    """Bring each object to its wanted state, in order; the paths that changed, each with why.

    In check mode an object below a mount that does not exist yet is taken to be missing.
    """
    reasons: dict[str, str] = {}
    for item in items:
        try:
            wanted = changes(vault, item)
        except VaultError as error:
            if not (check and reasons and error.status in (400, 403, 404)):
                raise
            wanted = [Change("what it belongs to does not exist yet", "POST", item["path"])]
        for change in wanted:
            reasons[item["path"]] = change.reason
            if check:
                continue
            try:
                vault.request(change.method, change.path, change.data)
            except VaultError as error:
                if item["create_only"] and "check-and-set" in str(error):
                    del reasons[item["path"]]  # someone else was first, and theirs stays
                    continue
                raise
    return reasons


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **TOKEN_ARGUMENTS,
            "objects": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "state": {
                        "type": "str",
                        "choices": ["present", "absent", "revoked", "written"],
                        "default": "present",
                    },
                    "data": {"type": "dict", "default": {}},
                    "write_only": {"type": "list", "elements": "str", "default": []},
                    "initial": {"type": "list", "elements": "str", "default": []},
                    "create_only": {"type": "bool", "default": False},
                    "force": {"type": "bool", "default": False},
                },
            },
        },
        supports_check_mode=True,
    )
    paths = [item["path"] for item in module.params["objects"]]
    vault = open_vault(module, unborn={"changed_paths": paths, "reasons": {}})
    try:
        reasons = apply(vault, module.params["objects"], check=module.check_mode)
    except VaultError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(reasons), changed_paths=list(reasons), reasons=reasons)


if __name__ == "__main__":
    main()
