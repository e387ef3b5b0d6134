#!/usr/bin/python
"""Keep a declared set of Consul ACL policies, tokens and prepared queries, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_acl
short_description: Keep a declared set of Consul policies, tokens and prepared queries
description:
  - Brings Consul's ACL policies and tokens to what is declared, and its prepared queries, over one connection, whatever
    their number.
  - A token's accessor ID follows from its name (UUID version 5), so that a token can be found, changed and deleted
    without its secret. A token whose secret changes is deleted and made again, as Consul forbids to change it.
  - Tokens, policies and queries that this module did not make are left alone.
  - It waits until the servers have a leader, so it can follow the servers' first start at once. A cluster that has no
    management token yet is given O(token) as its first, over its bootstrap API, so that none need be in the servers'
    settings. Cut off, the next run goes on, since the token was there before.
  - M(community.general.consul_token) is one process a token, fails in check mode where Consul is not there yet, and
    always finds a templated policy changed.
options:
  urls:
    description: HTTPS addresses of Consul servers; the first that answers is used.
    type: list
    elements: str
    required: true
  ca_path:
    description: File with the certificate of the authority that issued the servers' certificates.
    type: path
    required: true
  server_name:
    description: Name that the servers' certificates bear, such as V(server.dc1.consul).
    type: str
    required: true
  token:
    description: Secret ID (UUID) of the management token.
    type: str
    required: true
  policies:
    description: The wanted policies; one that exists under this name is changed to these rules.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the policy.
        type: str
        required: true
      description:
        description: What it is for.
        type: str
        default: ""
      rules:
        description: The rules, in HCL.
        type: str
        required: true
  tokens:
    description: The wanted tokens.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the token; it is also the token's description in Consul.
        type: str
        required: true
      secret_id:
        description: The token itself, a UUID.
        type: str
        required: true
      policies:
        description: Names of policies.
        type: list
        elements: str
        default: []
      services:
        description: Services that it may register, and find all others (a service identity each).
        type: list
        elements: str
        default: []
      nodes:
        description: Nodes that it may register (a node identity each).
        type: list
        elements: str
        default: []
      templates:
        description: Names of templated policies without variables, such as C(builtin/dns).
        type: list
        elements: str
        default: []
  queries:
    description: The wanted prepared queries; each is a name C(NAME.query.consul) in DNS.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the query; one that exists under this name is changed to this.
        type: str
        required: true
      service:
        description: The service whose instances it leads to, without those that have a critical check.
        type: str
        required: true
      ignored_checks:
        description: IDs of checks that count for nothing, such as V(serfHealth), which says whether a machine lives.
        type: list
        elements: str
        default: []
  datacenter:
    description: The datacenter of the nodes.
    type: str
    default: dc1
  absent:
    description: Names of tokens to delete, with shell wildcards, such as C(*/backend-3); a wanted token stays.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for the servers; none in check mode.
    type: int
    default: 60
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
    details: Where no server answers, as before the first run, everything counts as missing.
"""

EXAMPLES = r"""
- name: Declare the tokens
  hashistack.lab.consul_acl:
    urls: ["https://10.80.1.11:8501", "https://10.80.1.12:8501"]
    ca_path: ca.pem
    server_name: server.dc1.consul
    token: "{{ consul_management }}"
    policies:
      - {name: backend-read, rules: 'service "backend" { policy = "read" }'}
    tokens:
      - {name: agent/backend-1, secret_id: "{{ agent_token }}", nodes: [backend-1]}
      - {name: dns/lab, secret_id: "{{ dns_token }}", templates: [builtin/dns]}
    queries:
      - {name: backend, service: backend, ignored_checks: [serfHealth]}

- name: Delete the tokens of a machine that has left
  hashistack.lab.consul_acl:
    urls: ["https://10.80.1.11:8501"]
    ca_path: ca.pem
    server_name: server.dc1.consul
    token: "{{ consul_management }}"
    absent: ["*/backend-3"]
"""

RETURN = r"""
created:
  description: What was made, as C(policy NAME), C(token NAME) or C(query NAME).
  type: list
  elements: str
  returned: always
updated:
  description: What was changed.
  type: list
  elements: str
  returned: always
deleted:
  description: What was deleted.
  type: list
  elements: str
  returned: always
"""

import fnmatch
import functools
import ssl
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.http_api import RequestError, ask

# What OpenSSL calls a certificate that has expired (X509_V_ERR_CERT_HAS_EXPIRED).
EXPIRED = 10
# Accessor IDs are derived in this namespace; another one would make every token anew.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "hashistack-lab:consul-token")

Json = dict[str, Any]


class UnavailableError(Exception):
    """No server answers, or it has no leader or no such management token yet."""


class UnknownTokenError(UnavailableError):
    """A server does not know the management token (yet)."""


class RejectedError(Exception):
    """Consul understood a request and refused it."""


class Change(NamedTuple):
    """One request that brings Consul nearer to what is wanted."""

    kind: str  # created, updated or deleted
    label: str  # such as "token agent/backend-1"
    method: str
    path: str
    body: Json | None


def accessor_id(name: str) -> str:
    """The accessor ID of the token with this name.

    >>> accessor_id("dns/lab") == accessor_id("dns/lab")
    True
    """
    return str(uuid.uuid5(NAMESPACE, name))


def wanted_token(token: Json, datacenter: str) -> Json:
    """A token as Consul's API takes it, from a declared one."""
    return {
        "AccessorID": accessor_id(token["name"]),
        "SecretID": token["secret_id"],
        "Description": token["name"],
        "Policies": [{"Name": name} for name in token["policies"]],
        "ServiceIdentities": [{"ServiceName": name} for name in token["services"]],
        "NodeIdentities": [{"NodeName": name, "Datacenter": datacenter} for name in token["nodes"]],
        "TemplatedPolicies": [{"TemplateName": name} for name in token["templates"]],
    }


def rights(token: Json) -> tuple[Any, ...]:
    """What a token of the API grants, in a form that compares."""

    def names(key: str, *fields: str) -> list[tuple[str, ...]]:
        return sorted(tuple(str(item.get(field) or "") for field in fields) for item in token.get(key) or [])

    # Restrictions that this module never sets must show as a difference too.
    limits = [item["Datacenters"] for item in token.get("ServiceIdentities") or [] if item.get("Datacenters")]
    variables = [item["TemplateVariables"] for item in token.get("TemplatedPolicies") or [] if _variables(item)]
    return (
        names("Policies", "Name"),
        names("Roles", "Name"),
        names("ServiceIdentities", "ServiceName"),
        names("NodeIdentities", "NodeName", "Datacenter"),
        names("TemplatedPolicies", "TemplateName"),
        limits,
        variables,
    )


def _variables(item: Json) -> bool:
    return any((item.get("TemplateVariables") or {}).values())


def plan_tokens(existing: list[Json], tokens: list[Json], absent: list[str], datacenter: str) -> list[Change]:
    """The requests that bring the existing tokens to the wanted ones."""
    by_accessor = {token["AccessorID"]: token for token in existing}
    changes = []
    for token in tokens:
        want = wanted_token(token, datacenter)
        accessor, label = want["AccessorID"], f"token {token['name']}"
        have = by_accessor.get(accessor)
        if have is None:
            changes.append(Change("created", label, "PUT", "acl/token", want))
        elif have.get("SecretID") != want["SecretID"]:
            changes.append(Change("updated", label, "DELETE", f"acl/token/{accessor}", None))
            changes.append(Change("updated", label, "PUT", "acl/token", want))
        elif have.get("Description") != want["Description"] or rights(have) != rights(want):
            changes.append(Change("updated", label, "PUT", f"acl/token/{accessor}", want))
    wanted = {token["name"] for token in tokens}
    for token in existing:
        name = token.get("Description", "")
        ours = token["AccessorID"] == accessor_id(name) and name not in wanted
        if ours and any(fnmatch.fnmatchcase(name, pattern) for pattern in absent):
            changes.append(Change("deleted", f"token {name}", "DELETE", f"acl/token/{token['AccessorID']}", None))
    return changes


def plan_policies(existing: dict[str, Json], policies: list[Json]) -> list[Change]:
    """The requests that bring the existing policies, by name, to the wanted ones."""
    changes = []
    for policy in policies:
        want = {"Name": policy["name"], "Description": policy["description"], "Rules": policy["rules"]}
        have, label = existing.get(policy["name"]), f"policy {policy['name']}"
        if have is None:
            changes.append(Change("created", label, "PUT", "acl/policy", want))
        elif any(have.get(key, "") != value for key, value in want.items()):
            changes.append(Change("updated", label, "PUT", f"acl/policy/{have['ID']}", want))
    return changes


def plan_queries(existing: list[Json], queries: list[Json]) -> list[Change]:
    """The requests that bring the existing prepared queries to the wanted ones."""
    by_name = {query["Name"]: query for query in existing}
    changes = []
    for query in queries:
        have, label = by_name.get(query["name"]), f"query {query['name']}"
        service = {"Service": query["service"], "IgnoreCheckIDs": query["ignored_checks"]}
        want = {"Name": query["name"], "Service": service}
        if have is None:
            changes.append(Change("created", label, "POST", "query", want))
        elif any((have["Service"].get(key) or []) != value for key, value in service.items()):
            changes.append(Change("updated", label, "PUT", f"query/{have['ID']}", want))
    return changes


def is_passing(cause: BaseException | None) -> bool:
    """Whether what kept a server from answering may pass: a server that is reloading shows its old certificate yet."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_code == EXPIRED
    return not isinstance(cause, ssl.SSLError)


class Client:
    """One Consul server."""

    def __init__(self, url: str, ca_path: str, server_name: str, token: str) -> None:
        self.url = url
        headers = {"X-Consul-Token": token}
        self._ask = functools.partial(ask, url, ca_cert=ca_path, server_name=server_name, headers=headers)

    def request(self, method: str, path: str, body: Json | None = None) -> Any:
        """The decoded answer; None where the object does not exist.

        Raises:
            UnavailableError: no connection, no leader, or the token is not known (yet).
            RejectedError: any other error.
        """
        try:
            return self._ask(path, method=method, data=body)
        except RequestError as error:
            if error.status == 404:
                return None
            if error.status == 403 and "ACL not found" in str(error):
                raise UnknownTokenError(f"{self.url} does not know the management token") from error
            if error.status in (0, 429, 500, 502, 503, 504) and is_passing(error.__cause__):
                raise UnavailableError(str(error)) from error
            raise RejectedError(f"{method} {path}: {error}") from error


def bootstrap(client: Client, token: str) -> Change:
    """Make ``token`` the first management token of a cluster that has none.

    Raises:
        UnavailableError: the cluster has one already, or is not ready for one.
    """
    try:
        client.request("PUT", "acl/bootstrap", {"BootstrapSecret": token})
    except RejectedError as error:
        if "no longer allowed" not in str(error):
            raise
        raise UnavailableError(
            f"{client.url} has been given another management token than this controller's, by somebody else"
        ) from error
    return Change("created", "management token", "PUT", "acl/bootstrap", None)


def connect(
    urls: list[str], ca_path: str, server_name: str, token: str, made: list[Change] | None = None
) -> tuple[Client, list[Json]]:
    """A client of the first server that can list tokens, and that list.

    Args:
        urls: addresses of servers.
        ca_path: path of their certificates' CA.
        server_name: the name that these bear.
        token: the management token; a cluster that has none is given it.
        made: what is then added to; None, the cluster is given nothing.

    Raises:
        UnavailableError: none can; the message has every server's reason.
    """
    reasons = []
    for url in urls:
        client = Client(url, ca_path, server_name, token)
        try:
            try:
                return client, client.request("GET", "acl/tokens")
            except UnknownTokenError:
                if made is None:
                    raise
            # A server that is behind the others does not know the token yet either: then this is refused.
            made.append(bootstrap(client, token))
            return client, client.request("GET", "acl/tokens")
        except UnavailableError as error:
            reasons.append(str(error))
    raise UnavailableError("; ".join(reasons))


def wait_for_servers(
    attempt: Callable[[], tuple[Client, list[Json]]], timeout: float, interval: float = 0.3
) -> tuple[Client, list[Json]]:
    """Repeat ``attempt`` until it succeeds or ``timeout`` seconds have passed."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return attempt()
        except UnavailableError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(interval)


def summary(changes: list[Change]) -> dict[str, Any]:
    """The module's result."""
    result: dict[str, Any] = {"changed": bool(changes)}
    for kind in ("created", "updated", "deleted"):
        result[kind] = list(dict.fromkeys(change.label for change in changes if change.kind == kind))
    return result


def main() -> None:
    """Run the module."""
    strings = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "urls": {"type": "list", "elements": "str", "required": True},
            "ca_path": {"type": "path", "required": True},
            "server_name": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "policies": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "description": {"type": "str", "default": ""},
                    "rules": {"type": "str", "required": True},
                },
            },
            "tokens": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "secret_id": {"type": "str", "required": True, "no_log": True},
                    "policies": strings,
                    "services": strings,
                    "nodes": strings,
                    "templates": strings,
                },
            },
            "queries": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "service": {"type": "str", "required": True},
                    "ignored_checks": strings,
                },
            },
            "datacenter": {"type": "str", "default": "dc1"},
            "absent": strings,
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    options = module.params

    def plan(existing: list[Json], policies: dict[str, Json], queries: list[Json]) -> list[Change]:
        return [
            *plan_policies(policies, options["policies"]),
            *plan_tokens(existing, options["tokens"], options["absent"], options["datacenter"]),
            *plan_queries(queries, options["queries"]),
        ]

    made: list[Change] = []

    def attempt() -> tuple[Client, list[Json]]:
        given = (options["urls"], options["ca_path"], options["server_name"], options["token"])
        return connect(*given, None if module.check_mode else made)

    try:
        client, existing = wait_for_servers(attempt, 0 if module.check_mode else options["timeout"])
        found = {p["name"]: client.request("GET", f"acl/policy/name/{p['name']}") for p in options["policies"]}
        queries = client.request("GET", "query") if options["queries"] else []
        changes = plan(existing, {name: policy for name, policy in found.items() if policy}, queries)
        if not module.check_mode:
            for change in changes:
                client.request(change.method, change.path, change.body)
    except UnavailableError as error:
        if module.check_mode:
            module.exit_json(msg=f"Consul is not there yet: {error}", **summary(plan([], {}, [])))
        module.fail_json(
            msg=f"Consul did not answer within {options['timeout']} s: {error}. Look at 'journalctl -u consul' on the "
            "servers; more than half of them must run and reach each other for a leader."
        )
    except RejectedError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**summary(made + changes))


if __name__ == "__main__":
    main()
