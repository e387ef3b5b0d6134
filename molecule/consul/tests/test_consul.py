"""Three servers and a client: a leader that dies is replaced, names resolve, and without a token nothing is told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.running import BIN, Running, leader, wait_until
from tools.lab import ROOT

pytestmark = [pytest.mark.journal("consul@control", "consul@frontend"), pytest.mark.timeout(120)]
MACHINES = ("control-1", "control-2", "control-3", "client-1")
TLS = {"ca_file": "ca", "cert_file": "consul", "key_file": "consul-key"}
PORTS = {"https": 9501, "server": 9300, "serf_lan": 9301}
SECRETS = ("consul.json", "secrets.json", "tls/consul-key.pem")


def healthy(running: Running) -> bool:
    """Whether raft has all three servers as voters."""
    return any(
        answer.get("Healthy") and [server["Voter"] for server in answer["Servers"]] == [True] * 3
        for answer in (ask(running, name, "operator/autopilot/health").json() for name in running.names("control"))
    )


def ask(running: Running, name: str, path: str, known: bool = True) -> requests.Response:
    """Ask one server's API, with the management token or with none."""
    headers = {"X-Consul-Token": token(running)} if known else {}
    return running.lab.get(f"https://{running.lab.machine(name).address}:8501/v1/{path}", headers=headers)


def token(running: Running) -> str:
    """The management token."""
    return running.lab.secrets()["consul_management"]


@pytest.fixture(autouse=True, scope="module")
def formed(running: Running) -> None:
    """The cluster has come back after the reboot with no command given."""
    wait_until(lambda: leader(running) and healthy(running), 60, "three servers with a leader")


def test_every_machine_is_a_member_and_registered(running: Running) -> None:
    members = ask(running, "control-1", "agent/members").json()
    assert sorted(member["Name"] for member in members if member["Status"] == 1) == sorted(MACHINES)
    wait_until(
        lambda: sorted(node["Node"] for node in ask(running, "control-1", "catalog/nodes").json()) == sorted(MACHINES),
        30,
        "all are registered",
    )


def test_without_a_token_nothing_is_told_and_nothing_taken(running: Running) -> None:
    assert ask(running, "control-1", "catalog/services", known=False).json() == {}
    assert ask(running, "control-1", "catalog/nodes", known=False).json() == []
    assert ask(running, "control-1", "agent/members", known=False).json() == []
    assert ask(running, "control-1", "kv/molecule", known=False).status_code == 403
    put = running.sh("client-1", "curl -s -o /dev/null -w '%{http_code}' -X PUT -d x http://127.0.0.1:8500/v1/kv/x")
    assert put == "403"


@pytest.mark.parametrize(
    ("name", "ports"), [("control-1", {"22", "8300", "8301", "8501"}), ("client-1", {"22", "8301"})]
)
def test_no_plain_port_is_open_off_loopback(listening: Callable[[str], set[str]], name: str, ports: set[str]) -> None:
    assert {place.rpartition(":")[2] for place in listening(name)} == ports


@pytest.mark.parametrize("name", ["control-1", "client-1"])
def test_only_the_agent_reads_its_secrets(host: Callable[[str], Any], name: str) -> None:
    for path in SECRETS:
        file = host(name).file(f"/etc/consul.d/{path}")
        assert (file.user, file.group, oct(file.mode)) == ("root", "consul", "0o640"), path


@pytest.mark.parametrize("name", ["control-1", "client-1"])
def test_the_management_token_is_in_no_file_of_a_machine(running: Running, name: str) -> None:
    """But for raft's own data, in which Consul keeps every token."""
    found = running.attempt(
        name, "grep -rlsF -f /dev/stdin /etc /home /opt /root /run /srv /tmp /usr/local /var/tmp", token(running)
    )
    assert not found.stdout


@pytest.fixture
def service(running: Running) -> Iterator[str]:
    """A service of the client, in a file, with the token that may register just this one."""
    definition = {
        "service": {
            "name": "frontend",
            "port": 80,
            "token": running.lab.secrets()["consul_token/frontend/client-1"],
            "check": {"name": "it listens", "tcp": "127.0.0.1:8999", "interval": "1s", "timeout": "500ms"},
        }
    }
    file = "/etc/consul.d/frontend.json"
    running.sh("client-1", "systemd-run --quiet --unit listener python3 -m http.server --bind 127.0.0.1 8999")
    running.sh("client-1", f"cat > {file} && chmod 640 {file} && chgrp consul {file}", json.dumps(definition))
    running.sh("client-1", "systemctl reload consul")
    yield "frontend.service.consul"
    running.sh("client-1", f"rm {file}; systemctl reload consul; systemctl stop listener 2>/dev/null; true")


def test_a_service_is_found_by_its_name_while_its_check_passes(running: Running, service: str) -> None:
    def found(asking: str) -> list[str]:
        return running.sh(asking, f"getent ahostsv4 {service} | cut -d' ' -f1 | sort -u").split()

    address = running.lab.machine("client-1").address
    for asking in ("control-1", "client-1"):
        wait_until(lambda asking=asking: found(asking) == [address], 15, f"{asking} finds {service}")  # type: ignore[misc]
    running.sh("client-1", "systemctl stop listener")
    wait_until(lambda: not running.attempt("control-1", f"getent hosts {service}").stdout, 5, "it is left out")


def test_a_killed_leader_is_replaced_and_writes_go_on(running: Running) -> None:
    before = leader(running)
    others = [machine for machine in running.lab.group("control") if machine.name != before]
    running.sh(before, "systemctl kill --signal KILL consul; systemctl stop consul")
    try:
        wait_until(lambda: leader(running) not in ("", before), 15, "a new leader")
        wait_until(lambda: running.lab.consul(others[0]).kv.put("molecule", before), 10, "a write is taken")
        assert running.lab.consul(others[1]).kv.get("molecule")[1]["Value"].decode() == before
    finally:
        running.sh(before, "systemctl start consul")
    wait_until(lambda: healthy(running), 60, "the old leader follows again")
    assert running.lab.consul(running.lab.machine(before)).kv.get("molecule")[1]["Value"].decode() == before


def test_a_killed_agent_is_back_at_once(running: Running, kill: Callable[[str, str], None]) -> None:
    kill("client-1", "consul")
    wait_until(lambda: running.sh("client-1", "getent hosts control-1.node.consul"), 15, "names resolve again")


@pytest.fixture
def new_cluster(running: Running) -> Iterator[str]:
    """The address of a server on the client's machine, of a cluster whose ACLs nobody has set up yet."""
    address = running.lab.machine("client-1").address
    tls = {name: f"/etc/consul.d/tls/{file}.pem" for name, file in TLS.items()}
    settings = {
        "server": True,
        "bootstrap_expect": 1,
        "node_name": "new",
        "bind_addr": address,
        "addresses": {"https": address},
        "ports": {**dict.fromkeys(("http", "dns", "grpc", "grpc_tls", "serf_wan"), -1), **PORTS},
        "tls": {"defaults": tls},
        "acl": {"enabled": True, "default_policy": "deny"},
    }
    running.sh("client-1", "mkdir -p /run/new && cat > /run/new/consul.json", json.dumps(settings))
    running.sh("client-1", "systemd-run --quiet --unit new consul agent -config-dir /run/new -data-dir /run/new/data")
    yield f"https://{address}:{PORTS['https']}"
    running.sh("client-1", "systemctl stop new; rm -r /run/new")


def test_a_new_cluster_takes_the_management_token_once(running: Running, new_cluster: str) -> None:
    """Who was faster than the controller shows: its token is not taken for another's."""

    def declare(token: str, *options: str, timeout: int = 30) -> str:
        values = {"urls": [new_cluster], "ca_path": str(running.lab.authority), "server_name": "client.dc1.consul"}
        arguments = json.dumps({**values, "token": token, "timeout": timeout})
        command = [BIN / "ansible", "localhost", "-m", "hashistack.lab.consul_acl", "-a", arguments, *options]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=running.environment()
        )
        return " ".join((done.stdout + done.stderr).split())

    first, second = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
    assert "Consul is not there yet" in declare(first, "--check")
    assert "created: - management token" in declare(first)
    assert "changed: false" in declare(first)
    assert "by somebody else" in declare(second, timeout=1)


@pytest.mark.parametrize("name", ["control-1", "client-1"])
def test_the_unit_is_hardened(exposure: Callable[[str, str], float], name: str) -> None:
    assert exposure(name, "consul.service") <= 2


def test_wrong_options_are_refused_with_a_sentence(refuses: Callable[..., str]) -> None:
    assert "consul_gossip_key must be 32 bytes in base64" in refuses(consul_gossip_key="short")
    assert "value of consul_log_level must be one of" in refuses(consul_log_level="LOUD")
