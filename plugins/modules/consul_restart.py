#!/usr/bin/python
"""Restart one Consul agent, a server only when the others can do without it, and wait until it does its work again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_restart
short_description: Restart a Consul agent without the cluster noticing
description:
  - Runs on the agent's host. A server is restarted only when every server of O(servers) is healthy and has a vote; the
    module waits for that, and fails without touching anything if it does not come about. A leader hands on its
    leadership first. After the restart it waits until the server follows or leads, has caught up, and every server is
    healthy again.
  - Waits until no more checks fail on the agent than before.
  - An agent that does not answer serves nobody and is restarted at once.
  - Autopilot takes the number of servers from their settings only when a cluster forms; a restarted server brings it to
    the number of O(servers).
options:
  unit:
    description: Consul's systemd unit.
    type: str
    default: consul.service
  url:
    description: The agent's own API. A server's is asked by HTTPS, since it is sent a token that may do everything.
    type: str
    required: true
  token:
    description: >-
      Token for it. On a server it needs C(operator = write) and C(agent_prefix "" = read), on a client to read its own
      node and services.
    type: str
    required: true
  ca_path:
    description: CA of the servers' certificates, on the host; servers only.
    type: path
    default: ""
  server_name:
    description: Name that the servers' certificates bear; servers only.
    type: str
    default: ""
  servers:
    description: Names of all servers; none on a client.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for the others before, and for the agent after.
    type: int
    default: 120
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Restart a client
  hashistack.lab.consul_restart:
    url: http://127.0.0.1:8500
    token: "{{ agent_token }}"

- name: Restart a server
  hashistack.lab.consul_restart:
    url: https://127.0.0.1:8501
    token: "{{ management_token }}"
    ca_path: /etc/consul.d/tls/ca.pem
    server_name: server.dc1.consul
    servers: [control-1, control-2, control-3]
"""

RETURN = r"""
message:
  description: What was done, in a sentence.
  type: str
  returned: always
"""

import subprocess
import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.http_api import RequestError, ask

# Seconds between two looks.
EVERY = 0.5

Ask = Callable[..., Any]


def failing(checks: dict[str, dict[str, Any]]) -> int:
    """How many of an agent's checks do not pass.

    >>> failing({"web": {"Status": "passing"}, "db": {"Status": "critical"}})
    1
    """
    return sum(check["Status"] != "passing" for check in checks.values())


def unready(health: dict[str, Any], servers: list[str]) -> str:
    """Why a server may not be restarted, from autopilot's view; empty where it may.

    >>> unready({"Healthy": True, "Servers": [{"Name": "a", "Voter": True}]}, ["a"])
    ''
    """
    voters = {server["Name"] for server in health.get("Servers") or [] if server.get("Voter")}
    missing, strangers = sorted(set(servers) - voters), sorted(voters - set(servers))
    if missing:
        return f"{', '.join(missing)} has no vote"
    if strangers:
        return f"{', '.join(strangers)} has a vote, and is none of the servers"
    return "" if health.get("Healthy") else "not every server is healthy"


def caught_up(agent: dict[str, Any]) -> bool:
    """Whether a server follows or leads, and has applied all that is committed."""
    raft = agent.get("Stats", {}).get("raft", {})
    return bool(
        raft.get("state") in ("Follower", "Leader")
        and raft.get("last_contact") != "never"
        and raft.get("applied_index") == raft.get("commit_index")
    )


def journal(unit: str) -> list[str]:
    """The last lines of a unit's journal."""
    command = ["journalctl", "--unit", unit, "--lines", "20", "--no-pager", "--output", "cat"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def wait(condition: Callable[[], str], timeout: float) -> str:
    """Repeat ``condition`` until it has nothing to object; what it still objects to after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            problem = condition()
        except RequestError as error:
            problem = str(error)
        if not problem or time.monotonic() > deadline:
            return problem
        time.sleep(EVERY)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "default": "consul.service"},
            "url": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "ca_path": {"type": "path", "default": ""},
            "server_name": {"type": "str", "default": ""},
            "servers": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    options = module.params
    servers: list[str] = options["servers"]
    timeout: int = options["timeout"]
    if module.check_mode:
        module.exit_json(changed=True, message="The agent would be restarted.")

    def api(path: str, method: str = "GET", data: dict[str, Any] | None = None) -> Any:
        return ask(
            options["url"],
            path,
            ca_cert=options["ca_path"],
            server_name=options["server_name"],
            method=method,
            data=data,
            headers={"X-Consul-Token": options["token"]},
        )

    def healthy() -> str:
        return unready(api("operator/autopilot/health"), servers)

    def back() -> str:
        if servers and not caught_up(api("agent/self")):
            return "it has not caught up with the other servers"
        now = failing(api("agent/checks"))
        return f"{now} of its checks fail, {before} did before" if now > before else healthy() if servers else ""

    try:
        before = failing(api("agent/checks"))
        served = True
    except RequestError:
        before, served = 0, False
    if served and servers:
        problem = wait(healthy, timeout)
        if problem:
            module.fail_json(
                msg=f"Not restarted, since the cluster can't do without this server: {problem}. "
                "See 'consul operator raft list-peers' and 'journalctl --unit consul' on the servers, and run again."
            )
        if len(servers) > 1 and api("agent/self")["Stats"]["consul"]["leader"] == "true":
            try:
                api("operator/raft/transfer-leader", "POST")
            except RequestError as error:
                module.fail_json(msg=f"Not restarted: the leader could not hand on its leadership: {error}")
    for arguments in (["daemon-reload"], ["restart", options["unit"]]):
        code, out, err = module.run_command(["systemctl", *arguments])
        if code != 0:
            module.fail_json(
                msg=f"systemctl {' '.join(arguments)}: {err.strip() or out.strip()}", journal=journal(options["unit"])
            )
    problem = wait(back, timeout) if served else ""
    if not problem and servers:
        problem = wait(lambda: keep_minimum(api, len(servers)), timeout)
    if problem:
        module.fail_json(
            msg=f"The agent was restarted and is not back within {timeout} s: {problem}.",
            journal=journal(options["unit"]),
        )
    module.exit_json(changed=True, message="The agent was restarted" + (" and is back." if served else "."))


def keep_minimum(api: Ask, servers: int) -> str:
    """Let autopilot keep this number of servers; empty when it does."""
    settings = api("operator/autopilot/configuration")
    if settings["MinQuorum"] != servers:
        api("operator/autopilot/configuration", "PUT", {**settings, "MinQuorum": servers})
    return ""


if __name__ == "__main__":
    main()
