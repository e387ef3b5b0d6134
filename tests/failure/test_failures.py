"""A part of `make failures`: what breaks while a client uses the lab, and what the client saw."""

from __future__ import annotations

import dataclasses

import pytest

from tests.running import Running
from tools.failures.faults import FAULTS, rescue
from tools.failures.measure import clear_up, note_of, run
from tools.failures.scene import UNSEEN, Fault, Scene, failing
from tools.failures.watch import Watch
from tools.lab import CONSUL_PORT


@pytest.fixture
def scene(running: Running) -> Scene:
    """The lab under test, to be broken."""
    return Scene(running.lab, running.inventory, running.extra, running.ssh_config)


@pytest.mark.late(12)
@pytest.mark.journal("backend@backend", "vault-agent@backend", "nginx@frontend", "patroni@database")
@pytest.mark.timeout(200)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.quick], ids=lambda fault: fault.name)
def test_marks_hold_while_it_breaks(scene: Scene, fault: Fault) -> None:
    # How long answers take is measured by `make failures`, which has the computer for itself.
    seen = run(scene, dataclasses.replace(fault, marks=dataclasses.replace(fault.marks, p99=None)))
    if seen.healed is None:
        rescue(scene)
    assert len(seen.requests) > 100
    assert fault.surprises(seen) == []


@pytest.mark.late(12)
@pytest.mark.timeout(200)
def test_what_a_killed_run_left_is_mended_by_the_next(scene: Scene) -> None:
    fault = next(fault for fault in FAULTS if fault.name == "backend-cut")
    fault.breaks(scene)
    note_of(scene).write_text(fault.name, encoding="utf-8")
    assert scene.status().returncode == 1
    assert clear_up(scene, FAULTS, rescue) == fault.name
    scene.wait_healthy(30)
    assert clear_up(scene, FAULTS, rescue) == ""


@pytest.mark.late(12)
@pytest.mark.journal("consul@backend", "consul@control")
def test_a_report_that_consul_has_lost_is_told_from_a_check_that_fails(scene: Scene) -> None:
    """Consul's servers are told that a check fails which its own agent knows to pass."""
    token = {"X-Consul-Token": scene.lab.secrets()["consul_management"]}
    session, consul = scene.lab.session(), f"https://{scene.lab.group('control')[0].address}:{CONSUL_PORT}/v1"
    node = scene.names("backend")[0]
    check = next(x for x in session.get(f"{consul}/health/node/{node}", headers=token).json() if x["ServiceID"])
    told = {"Node": node, "SkipNodeUpdate": True, "Address": scene.lab.machine(node).address}

    def tell(status: str) -> None:
        lie = {**told, "Check": {**check, "Status": status}}
        session.put(f"{consul}/catalog/register", headers=token, json=lie).raise_for_status()

    watch = Watch(scene)
    watch.ask_agents()
    assert watch.unheard == []
    tell("critical")
    try:
        watch.ask_agents()
        problem = watch.look().problem
    finally:
        tell("passing")
    assert watch.unheard == [f"{node} {check['Name']}"]
    assert set(problem.split("; ")) <= {failing(watch.unheard[0]), UNSEEN}
