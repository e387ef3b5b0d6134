"""A part of `make failures`: what breaks while a client uses the lab, and what the client saw."""

from __future__ import annotations

import dataclasses

import pytest

from tests.running import Running
from tools.failures.faults import FAULTS, rescue
from tools.failures.measure import clear_up, note_of, run
from tools.failures.scene import Fault, Scene


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
