"""A second run changes nothing, and check mode says so."""

from __future__ import annotations

import json

import pytest

from tests.running import Running
from tools.lab import ROOT
from tools.preparing.prune import MACHINES, stood_on


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


@pytest.mark.late(2)
def test_machines_keep_the_tree_that_they_were_made_from(running: Running) -> None:
    """As when a new month, version or recipe has made `make prepare` name another tree: it is for new machines."""
    artifacts = json.loads((ROOT / ".lab/artifacts.json").read_text())
    for places in (artifacts["base"], *artifacts["layers"].values()):
        places.update(dict.fromkeys(places, "/nowhere/of-next-month"))
    again = running.playbook("playbooks/machines.yml", "-e", json.dumps({"lab_artifacts": artifacts})).require()
    assert again.changed == {}, again.output[-6000:]
    assert set(again.recap) >= {machine.name for machine in running.lab.machines}
    assert not {path for path in stood_on(MACHINES) if path.is_relative_to("/nowhere")}
