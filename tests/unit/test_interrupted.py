"""The moments at which runs are killed are there: a task that bears another name is never come to."""

from __future__ import annotations

import pytest

from tests.failure.test_interrupted import NASTY, Moment
from tools.lab import ROOT


@pytest.mark.parametrize("moment", NASTY, ids=str)
def test_a_task_bears_the_moments_name(moment: Moment) -> None:
    files = [path for folder in ("playbooks", "roles") for path in (ROOT / folder).rglob("*.yml")]
    name = moment.task.rpartition(" : ")[2]
    assert any(f"- name: {name}\n" in path.read_text(encoding="utf-8") for path in files), name
