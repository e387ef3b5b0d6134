"""Any process on any machine resolves the lab's names, and instances leave and join within seconds."""

from __future__ import annotations

import pytest

from tests.running import Running, Traffic, primary, wait_until


def addresses(running: Running, machine: str, name: str = "backend.service.consul") -> set[str]:
    return set(running.sh(machine, f"dig +short {name}").split())


@pytest.mark.parametrize("service", ["consul", "vault", "active.vault", "backend", "frontend"])
def test_every_machine_resolves_every_service(running: Running, service: str) -> None:
    entry = running.lab.services[service.rpartition(".")[2]]
    expected = {machine.address for machine in running.lab.group(entry["group"])}
    for machine in running.lab.machines:
        found = addresses(running, machine.name, f"{service}.service.consul")
        assert found, f"{machine.name} does not resolve {service}.service.consul"
        assert found <= expected
        if service != "active.vault":
            assert found == expected


def test_every_machine_resolves_the_primary_and_those_that_follow(running: Running) -> None:
    first = running.lab.machine(primary(running)).address
    others = {machine.address for machine in running.lab.group("database")} - {first}
    for machine in running.lab.machines:
        assert addresses(running, machine.name, "postgresql.service.consul") == {first}
        assert addresses(running, machine.name, "postgresql-replica.service.consul") == others


def test_names_resolve_by_the_system_resolver_too(running: Running) -> None:
    name = running.names("frontend")[0]
    found = {line.split()[0] for line in running.sh(name, "getent ahostsv4 backend.service.consul").splitlines()}
    assert found == {machine.address for machine in running.lab.group("backend")}


def test_names_outside_are_asked_upstream(running: Running) -> None:
    """A name that does not exist outside gets an answer from upstream, or none is reachable: never one of Consul's."""
    name = running.names("frontend")[0]
    status = running.sh(name, "dig +time=2 +tries=1 localhost. A | grep -o 'status: [A-Z]*' || true")
    assert "NOERROR" in status or "NXDOMAIN" in status


@pytest.mark.late(1)
@pytest.mark.journal("backend@backend", "consul@backend", "nginx@frontend")
@pytest.mark.timeout(120)
def test_a_stopped_backend_leaves_the_answer_and_no_request_fails(running: Running) -> None:
    first, second = running.lab.group("backend")[:2]
    frontend = running.names("frontend")[0]
    try:
        with Traffic(running, count=200, rate=30, seconds=30) as traffic:
            running.sh(first.name, "systemctl stop --no-block backend")
            wait_until(lambda: addresses(running, frontend) == {second.address}, 2, "the stopped one is out of DNS")
        traffic.require_no_failure(least=200)
        assert running.count() == len(running.names("backend")) - 1
    finally:
        # It drains for some seconds first; a start is queued behind the stop.
        running.sh(first.name, "systemctl is-active -q backend && systemctl stop backend; systemctl start backend")
    wait_until(lambda: first.address in addresses(running, frontend), 5, "the started one is back in DNS")


@pytest.mark.late(1)
@pytest.mark.journal("backend@backend", "consul@backend", "nginx@frontend")
@pytest.mark.timeout(120)
def test_a_killed_backend_costs_no_request(running: Running) -> None:
    first = running.lab.group("backend")[0]
    with Traffic(running, count=200, rate=40, seconds=30) as traffic:
        running.sh(first.name, "systemctl kill -s KILL backend")
    traffic.require_no_failure(least=200)
    wait_until(lambda: running.count() == len(running.names("backend")), 20, "it starts again by itself")
