"""What `make status` calls healthy."""

from __future__ import annotations

import datetime
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml

from tools import status
from tools.lab import ROOT, Lab, Machine, load
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
    assert len(lab.machines) == 8
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


@pytest.mark.parametrize("state", ["warning", "critical"])
def test_a_check_that_does_not_pass_is_bad_and_says_why(state: str) -> None:
    checks = [node_check("backend-1"), service_check("backend-1", "backend", state, "connection\nrefused")]
    (line,) = status.judge_services(lab_of(MACHINES[-1]), consul(**{"health/state/any": checks}))
    assert (line.state, line.level, line.detail) == ("0/1", BAD, f"backend-1 {state} (connection refused)")


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


def test_a_token_that_ends_soon_is_a_warning() -> None:
    assert status.judge_token(Answer({"ttl": 90, "period": 100})) == []
    assert levels(status.judge_token(Answer({"ttl": 10, "period": 100}))) == {WARNING}
    assert levels(status.judge_token(Answer(error="permission denied"))) == {BAD}


def machine_state(system: str = "running", failed: tuple[str, ...] = ()) -> Answer:
    return Answer({"system": system, "failed": list(failed)})


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
    assert all(answers[machine.name].value == {"system": "running", "failed": []} for machine in machines)
    assert time.monotonic() - start < 8
    at_a_time = [int(number) for number in (tmp_path / "ssh-at-a-time").read_text().split()]
    assert len(at_a_time) == 50
    assert max(at_a_time) <= 4 + len(dead)


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (Answer({"code": 200, "api": 200, "count": 2}), GOOD),
        (Answer({"code": 200, "api": 503, "count": None}), BAD),
        (Answer({"code": 502, "api": 200, "count": 2}), BAD),
        (Answer(error="connection refused"), BAD),
    ],
)
def test_pages(answer: Answer, level: str) -> None:
    assert levels(status.judge_pages({"https://10.0.0.21": answer}, 2)) == {level}


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
