"""The arithmetic of `make bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import bench
from tools.lab import LabError, load


def test_descendants() -> None:
    parents = {1: 0, 2: 1, 3: 2, 4: 2, 9: 1}
    assert bench.descendants(2, parents) == {2, 3, 4}


def test_the_parent_of_a_process_with_an_odd_name() -> None:
    assert bench.parse_parent("12 (a) b (c) S 7 12 12 0") == 7


def test_pss_in_kibibytes() -> None:
    assert bench.parse_pss("Rss:   100 kB\nPss:    42 kB\nPss_Dirty: 7 kB\n") == 42
    assert bench.parse_pss("") == 0


def test_changed_is_summed_over_the_hosts() -> None:
    recap = "a : ok=3    changed=2    unreachable=0\nb : ok=3    changed=1    unreachable=0\n"
    assert bench.Run(1.0, recap, {}).changed == 3


@pytest.mark.parametrize(
    ("value", "right", "verdict"), [(15.0, True, "met"), (15.1, True, "missed"), (1.0, False, "missed")]
)
def test_a_line_says_whether_its_mark_is_met(value: float, right: bool, verdict: str) -> None:
    line = bench.Measurement("again", value, "s", 15, right)
    assert bench.table([line]).splitlines()[-1] == f"| again | {value} s | 15 s | {verdict} |"


def test_a_line_without_a_mark() -> None:
    assert bench.Measurement("again", 40, "s", None).row() == "| again | 40.0 s |  |  |"


def test_where_the_time_goes() -> None:
    plays = bench.by_play([("Vault nodes", 1.0), ("Backend", 3.0), ("Vault nodes", 7.0), ("", 8.5)])
    assert plays == {"Vault nodes": 3.5, "Backend": 4.0}
    text = bench.profile(bench.Run(9, "", plays), bench.Run(2, "", {"Backend": 1.0}))
    assert "| Vault nodes | 3.5 s | 0.0 s |" in text
    assert "| Backend | 4.0 s | 1.0 s |" in text


def test_a_command_that_fails_says_what_it_printed() -> None:
    with pytest.raises(LabError, match="no such machine"):
        bench.run("sh", "-c", "echo no such machine; exit 3")


def test_plays_are_timed_as_they_are_printed() -> None:
    script = "echo 'PLAY [Machines] ****'; sleep 0.2; echo 'PLAY [Vault] ****'; echo 'PLAY RECAP ****'"
    plays = bench.run("sh", "-c", script).plays
    assert plays["Machines"] > 0.15 > plays["Vault"]


def test_the_inventory_of_a_size(tmp_path: Path) -> None:
    bench.write_inventory(tmp_path, 2)
    first = {machine.name: machine.address for machine in load([str(tmp_path)]).machines}
    assert first == {machine.name: machine.address for machine in load([str(bench.CONTAINERS)]).machines}
    bench.write_inventory(tmp_path, 44)
    lab = load([str(tmp_path)])
    assert len(lab.machines) == 50
    assert lab.machine("backend-44").address.endswith(".144")
