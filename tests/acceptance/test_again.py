"""A second run changes nothing, and check mode says so."""

from __future__ import annotations

import pytest

from tests.running import Running


@pytest.mark.late(2)
@pytest.mark.timeout(600)
def test_a_second_run_changes_nothing(running: Running) -> None:
    again = running.playbook("site.yml").require()
    assert again.changed == {}, again.output[-6000:]
    assert set(again.recap) >= {machine.name for machine in running.lab.machines}


@pytest.mark.late(2)
@pytest.mark.timeout(600)
def test_check_mode_on_a_running_lab_changes_nothing(running: Running) -> None:
    check = running.playbook("site.yml", "--check").require()
    assert check.changed == {}, check.output[-6000:]


@pytest.mark.late(2)
@pytest.mark.timeout(600)
def test_a_run_limited_to_one_machine_works(running: Running) -> None:
    one = running.playbook("site.yml", "--limit", running.names("backend")[0]).require()
    assert one.changed == {}, one.output[-6000:]


@pytest.mark.late(2)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tag", ["consul", "vault", "frontend"])
def test_a_run_of_one_part_works(running: Running, tag: str) -> None:
    part = running.playbook("site.yml", "--tags", tag).require()
    assert part.changed == {}, part.output[-6000:]
