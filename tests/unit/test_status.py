"""What `make status` calls healthy."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import socket
import ssl
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.modules.certificates import issue_authority, issue_leaf, key_pem, subject
from tools import status
from tools.lab import ROOT, Lab, LabError, Machine, load
from tools.status import BAD, GOOD, WARNING, Answer, Line

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CONTROL = [Machine(f"control-{number}", "control", f"10.0.0.1{number}") for number in (1, 2, 3)]
MACHINES = [*CONTROL, Machine("backend-1", "backend", "10.0.0.101")]


def member(name: str, state: int = 1) -> dict[str, Any]:
    machine = next((item for item in MACHINES if item.name == name), None)
    role = "consul" if machine and machine.group == "control" else "node"
    return {"Name": name, "Addr": machine.address if machine else "10.0.0.9", "Status": state, "Tags": {"role": role}}


def consul(**changes: Any) -> Answer:
    names = [machine.name for machine in MACHINES]
    value = {
        "agent/members": [member(name) for name in names],
        "status/leader": "10.0.0.12:8300",
        "operator/autopilot/health": {"Healthy": True, "FailureTolerance": 1},
        "health/state/any": [node_check(name) for name in names] + [service_check("backend-1", "backend")],
        "nodes": [{"Node": name} for name in names],
    }
    return Answer({**value, **changes})


def node_check(node: str, state: str = "passing") -> dict[str, Any]:
    return {"Node": node, "ServiceName": "", "ServiceID": "", "Status": state}


def service_check(node: str, service: str, state: str = "passing", output: str = "") -> dict[str, Any]:
    return {"Node": node, "ServiceName": service, "ServiceID": service, "Status": state, "Output": output}


def levels(lines: list[Line]) -> set[str]:
    return {line.level for line in lines}


def test_a_good_cluster() -> None:
    lines = status.judge_consul(MACHINES, consul())
    assert levels(lines) == {GOOD}
    assert [line.state for line in lines] == ["control-2", "3/3", "4/4"]


def test_a_dead_member_is_bad() -> None:
    members = [member("backend-1", 4)] + [member(machine.name) for machine in CONTROL]
    lines = status.judge_consul(MACHINES, consul(**{"agent/members": members}))
    assert [(line.name, line.state) for line in lines if line.level == BAD] == [("members", "3/4")]
    assert "backend-1" in lines[-1].detail


def test_no_leader_is_bad() -> None:
    lines = status.judge_consul(MACHINES, consul(**{"status/leader": ""}))
    assert lines[0].level == BAD


def test_raft_that_is_not_healthy_is_bad() -> None:
    lines = status.judge_consul(MACHINES, consul(**{"operator/autopilot/health": {"Healthy": False}}))
    assert lines[1].level == BAD


def test_a_node_that_the_inventory_does_not_know_is_a_warning() -> None:
    nodes = [{"Node": name} for name in ("backend-1", "backend-9")]
    lines = status.judge_consul(MACHINES, consul(nodes=nodes))
    assert [(line.name, line.level) for line in lines if line.level != GOOD] == [("backend-9", WARNING)]
    assert "remove.yml -e machine=backend-9" in lines[-1].remedy


def test_a_node_that_the_inventory_names_elsewhere_is_no_stranger() -> None:
    nodes = [{"Node": name} for name in ("backend-1", "desk-1", "backend-9")]
    lines = status.judge_consul(MACHINES, consul(nodes=nodes), {"desk-1"}, "LAB_NAME=x ansible-playbook -i y")
    (line,) = [line for line in lines if line.level != GOOD]
    assert line.remedy == "LAB_NAME=x ansible-playbook -i y playbooks/remove.yml -e machine=backend-9"


def test_a_lab_has_the_machines_of_every_group(tmp_path: Path) -> None:
    """Those of a group that only its owner knows too: whoever looks at the lab must not take them for strangers."""
    shutil.copytree(ROOT / "inventories" / "containers", tmp_path / "inventory")
    (tmp_path / "inventory" / "more.yml").write_text(
        yaml.safe_dump(
            {
                "lab": {"children": {"monitoring": {"hosts": {"monitoring-1": {"lab_index": 61}}}}},
                "desks": {"hosts": {"desk-1": {}}},
            }
        ),
        encoding="utf-8",
    )
    lab = load([str(tmp_path / "inventory")])
    assert lab.machine("monitoring-1").group == "monitoring"
    assert len(lab.machines) == 9
    assert lab.others == {"desk-1"}


def test_no_answer_is_one_bad_line() -> None:
    assert levels(status.judge_consul(MACHINES, Answer(error="connection refused"))) == {BAD}


def test_services_are_counted_against_the_inventory() -> None:
    lines = status.judge_services(lab_of(*MACHINES, Machine("backend-2", "backend", "10.0.0.102")), consul())
    assert [(line.name, line.state, line.level) for line in lines] == [("consul", "3/3", GOOD), ("backend", "1/2", BAD)]
    assert lines[1].detail == "1 not registered"


def lab_of(*machines: Machine) -> Lab:
    """A lab with these machines, and such services as they have."""
    services: dict[str, dict[str, Any]] = {
        "agent": {"group": "lab", "units": ["consul"]},
        "consul": {"group": "control", "units": ["consul"], "port": 8501},
        "backend": {"group": "backend", "units": ["backend"], "port": 8443},
    }
    groups = {"lab", *(machine.group for machine in machines)}
    here = {name: entry for name, entry in services.items() if entry["group"] in groups}
    return Lab("lab", Path(), "containers", "", "", machines, here)


def test_of_a_service_with_a_standby_one_instance_has_its_own_name() -> None:
    services = {
        "postgresql": {"group": "database", "units": ["patroni"], "port": 5432, "standby": "postgresql-replica"}
    }
    lab = Lab("lab", Path(), "containers", "", "", tuple(DATABASES), services)

    def judged(*states: str) -> Line:
        places = [(name, service) for name in ("database-1", "database-2") for service in NAMES]
        checks = [node_check("database-1"), node_check("database-2")]
        checks += [service_check(*place, state) for place, state in zip(places, states, strict=True)]
        (line,) = status.judge_services(lab, consul(**{"health/state/any": checks}))
        return line

    well = judged("passing", "critical", "critical", "passing")
    assert (well.state, well.level) == ("2/2", GOOD)
    alone = judged("passing", "critical", "critical", "critical")
    assert (alone.state, alone.level) == ("1/2", BAD)


NAMES = ("postgresql", "postgresql-replica")
DATABASES = [Machine(f"database-{number}", "database", f"10.0.0.2{number}") for number in (1, 2)]


def cluster(*members: tuple[str, str, str], **more: Any) -> Answer:
    """What Patroni says of members: name, role, state."""
    keys = ("name", "role", "state")
    return Answer({"members": [{**dict(zip(keys, member, strict=True)), "lag": 0} for member in members], **more})


WELL = (("database-1", "leader", "running"), ("database-2", "sync_standby", "running"))


def test_a_database_with_a_replica_that_can_take_over_is_well() -> None:
    lines = status.judge_postgresql(DATABASES, cluster(*WELL))
    assert [(line.name, line.state, line.level) for line in lines] == [
        ("database-1", "primary", GOOD),
        ("database-2", "replica", GOOD),
    ]


@pytest.mark.parametrize(
    ("answer", "name", "state", "level"),
    [
        (cluster(WELL[0]), "database-2", "not in the cluster", BAD),
        (cluster(WELL[0], ("database-2", "replica", "streaming")), "database-2", "replica", BAD),
        (cluster(WELL[0], ("database-2", "sync_standby", "start failed")), "database-2", "start failed", BAD),
        (cluster(("database-1", "sync_standby", "running"), WELL[1]), "cluster", "no primary", BAD),
        (cluster(*WELL, pause=True), "cluster", "paused", WARNING),
        (Answer(error="connection refused"), "cluster", "no answer", BAD),
    ],
)
def test_a_database_that_could_lose_its_primary_says_so(answer: Answer, name: str, state: str, level: str) -> None:
    lines = [line for line in status.judge_postgresql(DATABASES, answer) if line.level != GOOD]
    assert [(line.name, line.state, line.level) for line in lines] == [(name, state, level)]


@pytest.mark.parametrize(("state", "count", "level"), [("warning", "1/1", WARNING), ("critical", "0/1", BAD)])
def test_a_check_that_does_not_pass_says_why(state: str, count: str, level: str) -> None:
    """DNS names an instance with a warning: nobody is refused because of it."""
    checks = [node_check("backend-1"), service_check("backend-1", "backend", state, "connection\nrefused")]
    (line,) = status.judge_services(lab_of(MACHINES[-1]), consul(**{"health/state/any": checks}))
    assert (line.state, line.level, line.detail) == (count, level, f"backend-1 {state} (connection refused)")


def test_a_service_on_a_dead_node_is_bad() -> None:
    checks = [node_check("backend-1", "critical"), service_check("backend-1", "backend")]
    (line,) = status.judge_services(lab_of(MACHINES[-1]), consul(**{"health/state/any": checks}))
    assert line.level == BAD


def node(**changes: Any) -> Answer:
    return Answer({"initialized": True, "sealed": False, "standby": True, "version": "1.2.3", **changes})


def test_vault() -> None:
    answers = {"control-1": node(), "control-2": node(standby=False), "control-3": node()}
    lines = status.judge_vault(CONTROL, answers)
    assert [line.state for line in lines] == ["standby", "active", "standby"]
    assert levels(lines) == {GOOD}


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (node(sealed=True), "sealed"),
        (node(initialized=False), "not initialised"),
        (Answer(error="connection refused"), "no answer"),
    ],
)
def test_a_vault_node_that_does_not_serve_is_bad(answer: Answer, state: str) -> None:
    answers = {"control-1": answer, "control-2": node(standby=False), "control-3": node()}
    lines = status.judge_vault(CONTROL, answers)
    assert [(line.state, line.level) for line in lines if line.level != GOOD] == [(state, BAD)]


def test_vault_without_an_active_node_is_bad() -> None:
    lines = status.judge_vault(CONTROL, {machine.name: node() for machine in CONTROL})
    assert lines[-1].level == BAD


def test_a_node_that_does_not_vote_is_said() -> None:
    (line,) = status.judge_voters(CONTROL, Answer({"voters": ["control-1"]}))
    assert (line.level, line.detail) == (BAD, "control-2, control-3 can't take over yet")
    assert status.judge_voters(CONTROL, Answer({"voters": ["control-1", "control-2", "control-3"]})) == []
    assert status.judge_voters(CONTROL, Answer(error="permission denied")) == [], "the token's line says it"


def test_a_token_that_ends_soon_is_a_warning() -> None:
    assert status.judge_token(Answer({"ttl": 90, "period": 100})) == []
    assert levels(status.judge_token(Answer({"ttl": 10, "period": 100}))) == {WARNING}
    assert levels(status.judge_token(Answer(error="permission denied"))) == {BAD}


def machine_state(system: str = "running", failed: tuple[str, ...] = ()) -> Answer:
    return Answer({"system": system, "failed": list(failed), "full": []})


def test_a_full_disk_has_a_line_of_its_own() -> None:
    table = "Avail 1K-blocks IFree Inodes Mounted on\n 9 1000 5 9 /\n 70 100 0 50 /var\n 0 0 0 0 /proc\n 5 9 - - /x\n"
    assert status.full(table) == ["/ has 9 KiB left", "/var has no inodes left"]
    answer = Answer({"system": "running", "failed": [], "full": status.full(table)})
    lines = status.judge_machines(MACHINES[-1:], None, {"backend-1": answer})
    assert [(line.state, line.level) for line in lines] == [("no room", BAD), ("running", GOOD)]


@pytest.mark.parametrize(
    ("running", "answer", "expected"),
    [
        ({"backend-1"}, machine_state(), ("running", GOOD)),
        (None, machine_state(), ("running", GOOD)),
        (set(), machine_state(), ("not running", BAD)),
        ({"backend-1"}, Answer(error="Connection refused"), ("no ssh", BAD)),
        ({"backend-1"}, machine_state("degraded", ("vault-agent.service",)), ("degraded", BAD)),
        ({"backend-1"}, machine_state("starting"), ("starting", WARNING)),
    ],
)
def test_machines(running: set[str] | None, answer: Answer, expected: tuple[str, str]) -> None:
    (line,) = status.judge_machines(MACHINES[-1:], running, {"backend-1": answer})
    assert (line.state, line.level) == expected


SSH = """#!/bin/sh
# Stands in for ssh: dead machines never answer, the others after a while. Says how many run at a time.
for word in "$@"; do address=$last last=$word; [ "$word" = -- ] && break; done
mkdir "$0.$address" && ls -d "$0".* | wc -l >> "$0-at-a-time"
case $address in *.dead) exec sleep 30;; esac
sleep 0.1
rmdir "$0.$address"
echo running
"""


def test_many_machines_are_asked_a_few_at_a_time_and_a_dead_one_holds_up_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(SSH, encoding="utf-8")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(status, "LOGINS", 4)
    machines = [Machine(f"backend-{number}", "backend", f"{number}.live") for number in range(46)]
    dead = [Machine(f"dead-{number}", "backend", f"{number}.dead") for number in range(4)]
    start = time.monotonic()
    answers = status.ask_machines([*dead, *machines], timeout=3)
    assert [answers[machine.name].error for machine in dead] == ["no answer in time"] * 4
    state = {"system": "running", "failed": [], "full": []}
    assert all(answers[machine.name].value == state for machine in machines)
    assert time.monotonic() - start < 8
    at_a_time = [int(number) for number in (tmp_path / "ssh-at-a-time").read_text().split()]
    assert len(at_a_time) == 50
    assert max(at_a_time) <= 4 + len(dead)


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (Answer({"code": 200, "api": 200, "count": 2, "notes": 200}), GOOD),
        (Answer({"code": 200, "api": 200, "count": 2, "notes": 503}), BAD),
        (Answer({"code": 200, "api": 503, "count": None, "notes": 200}), WARNING),
        (Answer({"code": 200, "api": 503, "count": None, "notes": 503}), BAD),
        (Answer({"code": 502, "api": 200, "count": 2, "notes": 200}), BAD),
        (Answer(error="connection refused"), BAD),
    ],
)
def test_pages(answer: Answer, level: str) -> None:
    assert levels(status.judge_pages({"https://10.0.0.21": answer}, 2)) == {level}


def instance(age: float | None = 60.0, **database: Any) -> Answer:
    seen = {"status": "up", "user": "v-backend-1-x", "error": None, "checked_seconds_ago": 0.4, "readable": True}
    ends = {"credentials_end_seconds": 1800.0, "credentials_ending": False}
    return Answer({"database": {**seen, **ends, **database}, "secrets": {"pg_service.conf": {"age_seconds": age}}})


ASKED = ("ask_consul", "ask_vault", "ask_vault_cluster", "ask_postgresql", "ask_machine")


@pytest.mark.parametrize("slow", ["ask_certificates", "ask_page", *ASKED])
def test_instances_and_the_page_are_asked_last_where_something_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """A database that hangs shows no certificate for 5 s, and by then each write is refused.

    So it is where a server of Consul is dead that is asked before the others. And where all machines reboot, the page
    is back before the backends end, and answers for half a second, while a login waits for 5 s.
    """
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.pem").touch()
    known = threading.Event()

    def hang(*_arguments: Any) -> Any:
        time.sleep(0.3)  # Longer than FRESH, below: only then are they asked again.
        known.set()
        raise LabError("no answer in time")

    def refuse(*_arguments: Any) -> Any:
        raise LabError("no answer")

    for name in ASKED:
        monkeypatch.setattr(status, name, refuse)
    page = {"code": 200, "api": 200, "count": 1, "notes": 200}
    monkeypatch.setattr(status, "ask_page", lambda *_arguments: {**page, "notes": 503 if known.is_set() else 200})
    monkeypatch.setattr(status, slow, hang)
    monkeypatch.setattr(status, "FRESH", 0.2)
    told = {True: instance(status="down", error="it hangs"), False: instance()}
    monkeypatch.setattr(status, "ask_backend", lambda *_arguments: told[known.is_set()].value)
    machines = (
        Machine("backend-1", "backend", "10.0.0.1"),
        Machine("frontend-1", "frontend", "10.0.0.9"),
        Machine("control-1", "control", "10.0.0.11"),
    )
    lab = Lab("lab", tmp_path, "vagrant", "", "", machines, {"backend": {"group": "backend", "units": ["backend"]}})
    lines = status.collect(lab)
    states = {line.section: line.state for line in lines if line.section in ("Database", "Page")}
    assert states == {"Database": "away", "Page": "no answer" if slow == "ask_page" else "no notes"}


@pytest.mark.parametrize(
    ("answer", "state", "level", "words"),
    [
        (instance(), "up", GOOD, "v-backend-1-x, credentials 60 s old, they end in 30 min unless renewed"),
        (instance(credentials_end_seconds=None), "up", GOOD, "v-backend-1-x, credentials 60 s old"),
        (instance(credentials_end_seconds=9.0, credentials_ending=True), "ends soon", WARNING, "overdue"),
        (instance(status="down", user=None, error="the server refuses the credentials"), "away", BAD, "refuses"),
        (instance(status="unknown", user=None), "away", BAD, ""),
        (instance(checked_seconds_ago=30.0), "away", BAD, "not looked at for 30 s"),
        (instance(None, user=None, status="down", error="not there yet"), "away", BAD, "no credentials"),
        (Answer(error="connection refused"), "no answer", BAD, "connection refused"),
    ],
)
def test_an_instance_is_as_well_as_its_database(answer: Answer, state: str, level: str, words: str) -> None:
    (line,) = status.judge_backends({"backend-1": answer})
    assert (line.state, line.level) == (state, level)
    assert words in line.detail


@pytest.mark.parametrize(("ago", "level"), [(0.5, BAD), (60.0, GOOD)])
def test_a_page_whose_notes_nobody_can_write_is_no_good(ago: float, level: str) -> None:
    full = "could not extend file: No space left on device"
    backends = {"backend-1": instance(), "backend-2": instance(write_error=full, write_error_seconds_ago=ago)}
    page = Answer({"code": 200, "api": 200, "count": 2, "notes": 200})
    (line,) = status.judge_pages({"https://10.0.0.21": page}, 2, status.refused_writes(backends))
    assert line.level == level
    assert (full in line.detail) == (level == BAD)


def test_a_page_whose_notes_only_a_replica_has_is_no_good() -> None:
    """Where one instance alone waits for the primary, another may not; where nothing can be read, the page says so."""
    page = Answer({"code": 200, "api": 200, "count": 2, "notes": 200})
    away, gone = instance(status="down", error="timeout"), instance(status="down", error="timeout", readable=False)
    for backends, state in (
        ({"backend-1": away, "backend-2": away}, "only reads"),
        ({"backend-1": away, "backend-2": instance()}, "answers"),
        ({"backend-1": away, "backend-2": Answer(error="connection refused")}, "only reads"),
        ({"backend-1": gone, "backend-2": gone}, "answers"),
    ):
        (line,) = status.judge_pages({"https://10.0.0.21": page}, 2, status.refused_writes(backends))
        assert line.state == state, backends


def test_red_is_what_users_notice() -> None:
    page, bad = Line("Page", "https://10.0.0.21", "answers"), Line("Machines", "backend-1", "not running", level=BAD)
    assert status.verdict([page]) == "healthy"
    assert status.verdict([page, bad]) == "degraded"
    assert status.verdict([bad, Line("Page", "https://10.0.0.21", "no notes", level=BAD)]) == "unhealthy"


class Shows(threading.Thread):
    """A service on this computer that shows a certificate to whoever comes; PostgreSQL is asked for TLS first."""

    def __init__(self, certificate: Path, asked_first: bool) -> None:
        super().__init__(daemon=True)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        self._asked_first = asked_first
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        client, _ = self._listener.accept()
        with contextlib.suppress(OSError), client:
            if self._asked_first:
                client.recv(8)
                client.sendall(b"S")
            with self._context.wrap_socket(client, server_side=True) as secured:
                secured.recv(1)


@pytest.mark.parametrize("shows", ["backend", "postgresql", "patroni"])
@pytest.mark.parametrize(
    ("start", "stranger", "name", "words"),
    [
        (-1, False, "it.service.consul", ""),
        (-10, False, "it.service.consul", "has expired"),
        (2, False, "it.service.consul", "is not valid yet"),
        (-1, True, "it.service.consul", "is not from this lab's CA"),
        (-1, False, "other.service.consul", "is another service's"),
    ],
)
def test_a_certificate_that_clients_refuse_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shows: str,
    start: int,
    stranger: bool,
    name: str,
    words: str,
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    ours, other, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    pem = {it: issue_authority(subject("CA"), it, 3650, now - datetime.timedelta(days=20)) for it in (ours, other)}
    signer = other if stranger else ours
    wanted = {"name": "x", "common_name": name, "dns_names": [name], "ip_addresses": []}
    issuer = x509.load_pem_x509_certificate(pem[signer])
    leaf = issue_leaf(wanted, key, issuer, signer, 5, now + datetime.timedelta(days=start))
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.pem").write_bytes(pem[ours])
    (tmp_path / "leaf.pem").write_bytes(leaf + key_pem(key))
    it = Shows(tmp_path / "leaf.pem", shows == "postgresql")
    it.start()
    machine = Machine("x-1", "x", "127.0.0.1")
    # Patroni's is the database's, at another port; at port 1 nobody answers.
    service, port = ("postgresql", 1) if shows == "patroni" else (shows, it.port)
    monkeypatch.setattr(status, "PATRONI_PORT", it.port if shows == "patroni" else 1)
    services = {service: {"group": "x", "port": port, "names": ["it.service.consul"], "units": [service]}}
    lab = Lab("lab", tmp_path, "containers", "", "", (machine,), services)
    lines = status.judge_shown(status.ask_certificates(lab, [machine], 2.0))
    assert [(line.name, line.level) for line in lines] == ([(f"x-1/{shows}", BAD)] if words else [])
    assert words in "".join(line.detail for line in lines)


def test_a_service_that_does_not_answer_shows_no_certificate(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.pem").write_bytes(issue_authority(subject("CA"), key, 3650, NOW))
    machine = Machine("x-1", "x", "127.0.0.1")
    services = {"backend": {"group": "x", "port": 1, "names": ["it.service.consul"], "units": ["backend"]}}
    lab = Lab("lab", tmp_path, "containers", "", "", (machine,), services)
    answers = status.ask_certificates(lab, [machine], 2.0)
    assert "refused" in answers["x-1", "backend"].error
    assert status.judge_shown(answers) == []


@pytest.mark.parametrize(("days_left", "level"), [(300, GOOD), (122, GOOD), (121, WARNING), (6, BAD), (-1, BAD)])
def test_certificates(days_left: int, level: str) -> None:
    end = NOW + datetime.timedelta(days=days_left)
    certificate = {"name": "backend-1/consul", "start": end - datetime.timedelta(days=365), "end": end}
    assert levels(status.judge_certificates([certificate], NOW)) == {level}


def test_no_certificates_is_bad() -> None:
    assert levels(status.judge_certificates([], NOW)) == {BAD}


def test_a_warning_is_no_reason_for_exit_code_1() -> None:
    assert status.healthy([Line("a", "b", "c"), Line("a", "b", "c", level=WARNING)])
    assert not status.healthy([Line("a", "b", "c"), Line("a", "b", "c", level=BAD)])


def test_reasons_are_short() -> None:
    assert status.reason(requests.ConnectTimeout("HTTPSConnectionPool(...)")) == "no answer in time"
    assert status.reason(requests.ConnectionError("[Errno 111] Connection refused")) == "connection refused"
    assert len(status.reason(ValueError("x\n" * 400))) <= 120


def test_whatever_goes_wrong_is_a_reason() -> None:
    def fail() -> None:
        raise RuntimeError("it broke")

    assert status.attempt(fail) == Answer(error="it broke")


@pytest.mark.parametrize(("patience", "code"), [("5", 0), ("0", 1)])
def test_what_has_just_started_gets_the_time_that_it_is_given(
    monkeypatch: pytest.MonkeyPatch, patience: str, code: int
) -> None:
    states = iter([[Line("Services", "hello", "0/1", level=BAD)], [Line("Services", "hello", "1/1")]])
    monkeypatch.setattr(status, "load", lambda _inventory: SimpleNamespace(kind="containers", name="lab"))
    monkeypatch.setattr(status, "collect", lambda _lab, _timeout: next(states))
    assert status.main(["--patience", patience, "--json"]) == code
