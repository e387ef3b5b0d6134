"""The arithmetic of `make bench`."""

from __future__ import annotations

from tools import bench


def test_descendants() -> None:
    parents = {1: 0, 2: 1, 3: 2, 4: 2, 9: 1}
    assert bench.descendants(2, parents) == {2, 3, 4}


def test_the_parent_of_a_process_with_an_odd_name() -> None:
    assert bench.parse_parent("12 (a) b (c) S 7 12 12 0") == 7


def test_pss_in_kibibytes() -> None:
    assert bench.parse_pss("Rss:   100 kB\nPss:    42 kB\nPss_Dirty: 7 kB\n") == 42
    assert bench.parse_pss("") == 0


def test_changed_is_summed_over_the_hosts() -> None:
    assert bench.changed("a : ok=3    changed=2    unreachable=0\nb : ok=3    changed=1    unreachable=0\n") == 3


def test_the_table() -> None:
    text = bench.table("2 processors", "2026-01-01", [bench.Measurement("second run", "40 s", "45 s")], {"a": 12.4})
    assert "| second run | 40 s | 45 s |" in text
    assert "| a | 12 MiB |" in text
