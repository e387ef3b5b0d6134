#!/usr/bin/python
"""Make Consul forget a machine, or name it to nobody."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_node
short_description: Make Consul forget a machine that has left, or is about to
description:
  - Removes a node from the members (C(force-leave -prune), on every server) and from the catalogue, with its
    services and checks. Works whether the machine still runs, was just stopped, or has been gone for long.
  - A node whose agent still runs joins again by itself, so stop it first. The servers find out for themselves that it
    has; one that is told to drop a member that it takes for alive, or for leaving, hears of no other for eight seconds.
  - No module of community.general does either of the two.
options:
  urls:
    description: HTTPS addresses of the Consul servers.
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
    description: Secret ID of a token with C(operator = write) and C(node = write).
    type: str
    required: true
  name:
    description: Name of the node.
    type: str
    required: true
  state:
    description:
      - V(absent) removes it, and its agent must have ended.
      - V(unlisted) only takes it and its services out of the catalogue, so that no client is led to a machine that
        is about to end. Its agent brings back what it reports anew, and the rest within two minutes.
      - A node is made by its own agent.
    type: str
    choices: [absent, unlisted]
    default: absent
  timeout:
    description: Seconds to wait until all servers take the node for gone, and none knows it any more.
    type: int
    default: 30
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Forget backend-3
  hashistack.lab.consul_node:
    urls: ["https://10.80.1.11:8501", "https://10.80.1.12:8501"]
    ca_path: ca.pem
    server_name: server.dc1.consul
    token: "{{ consul_management }}"
    name: backend-3
  delegate_to: localhost
  no_log: true
"""

RETURN = r"""
found:
  description: Where it was known, such as C(members) and C(catalog).
  type: list
  elements: str
  returned: always
"""

import functools
import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.http_api import RequestError, ask

EVERY = 0.3
# Serf's numbers of a status.
ALIVE = 1
LEAVING = 2
Api = Callable[..., Any]
"""`ask`, with the options that all requests share."""


def servers_up(api: Api, urls: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The servers that answer, each with the members that it sees.

    Raises:
        RequestError: none answers.
    """
    views, reasons = {}, []
    for url in urls:
        try:
            views[url] = api(url, "agent/members")
        except RequestError as error:
            reasons.append(str(error))
    if not views:
        raise RequestError("; ".join(reasons))
    return views


def traces(api: Api, urls: list[str], name: str) -> list[str]:
    """Where Consul knows the node: ``members``, ``catalog``, both or nowhere."""
    views = servers_up(api, urls)
    found = []
    if any(member["Name"] == name for members in views.values() for member in members):
        found.append("members")
    url = next(iter(views))
    if any(node["Node"] == name for node in api(url, "catalog/nodes?consistent")):
        found.append("catalog")
    return found


def unlist(api: Api, url: str, name: str) -> None:
    """Drop the node and its services from the catalogue."""
    api(url, "catalog/deregister", method="PUT", data={"Node": name})


def forget(api: Api, urls: list[str], name: str) -> None:
    """Drop it from the catalogue, and ask every server that sees the member to drop it, once all take it for gone."""
    views = servers_up(api, urls)
    unlist(api, next(iter(views)), name)
    seen = {url: member for url, members in views.items() for member in members if member["Name"] == name}
    if any(member["Status"] in (ALIVE, LEAVING) for member in seen.values()):
        return
    for url in seen:
        try:
            api(url, f"agent/force-leave/{name}?prune=1", method="PUT")
        except RequestError as error:
            if "No node found" not in str(error):  # gossip from the server asked before was faster
                raise


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "urls": {"type": "list", "elements": "str", "required": True},
            "ca_path": {"type": "path", "required": True},
            "server_name": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent", "unlisted"], "default": "absent"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    urls, name = module.params["urls"], module.params["name"]
    ca_cert, headers = module.params["ca_path"], {"X-Consul-Token": module.params["token"]}
    api = functools.partial(ask, ca_cert=ca_cert, server_name=module.params["server_name"], headers=headers)
    try:
        found = traces(api, urls, name)
        if module.params["state"] == "unlisted":
            found = [place for place in found if place == "catalog"]
            if found and not module.check_mode:
                unlist(api, next(iter(servers_up(api, urls))), name)
        elif found and not module.check_mode:
            deadline = time.monotonic() + module.params["timeout"]
            left = found
            while left and time.monotonic() < deadline:
                forget(api, urls, name)
                left = traces(api, urls, name)
                if left:
                    time.sleep(EVERY)
            if left:
                module.fail_json(
                    msg=f"Consul still knows {name} in its {' and '.join(left)}: does its agent still run?"
                )
    except RequestError as error:
        module.fail_json(msg=f"Consul could not be asked: {error}")
    module.exit_json(changed=bool(found), found=found)


if __name__ == "__main__":
    main()
