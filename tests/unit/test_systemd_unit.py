"""When a unit is restarted, reloaded, or left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plugins.module_utils.systemd_unit import decide, newest, parse_properties, parse_timestamp, unread, unsteady

STARTED = "Mon 2026-01-05 10:00:00.000000 UTC"
RELOADED = "Mon 2026-01-05 11:00:00.000000 UTC"


def unit(**changes: str) -> dict[str, str]:
    return {
        "ActiveEnterTimestamp": STARTED,
        "ActiveState": "active",
        "FragmentPath": "",
        "DropInPaths": "",
        "InactiveExitTimestamp": STARTED,
        "NRestarts": "0",
        "Result": "success",
        "SubState": "running",
        "Type": "notify",
        "StateChangeTimestamp": RELOADED,
        **changes,
    }


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "a.conf"
    path.write_text("x")
    return path


def touch(path: Path, when: str) -> None:
    os.utime(path, (parse_timestamp(when), parse_timestamp(when)))


def test_properties_and_times() -> None:
    assert parse_properties("A=1\nB=x=y\nnonsense\n") == {"A": "1", "B": "x=y"}
    assert parse_timestamp("Mon 2026-01-05 10:00:00.250000 UTC") - parse_timestamp(STARTED) == 0.25
    assert parse_timestamp("") == parse_timestamp("n/a") == 0.0


def test_a_stopped_unit_is_started(config: Path) -> None:
    assert decide(unit(ActiveState="inactive"), [str(config)], []).action == "start"
    assert decide(unit(ActiveState="failed"), [], []).action == "start"


def test_an_unchanged_file_changes_nothing(config: Path) -> None:
    touch(config, "Mon 2026-01-05 09:59:59 UTC")
    assert decide(unit(), [str(config)], [str(config)]).action == "none"


def test_a_newer_file_restarts_the_unit_and_is_named(config: Path) -> None:
    touch(config, "Mon 2026-01-05 10:00:01 UTC")
    decision = decide(unit(), [f"{config.parent}/*.conf"], [])
    assert decision.action == "restart"
    assert str(config) in decision.reason


def test_a_newer_unit_file_restarts_the_unit(config: Path) -> None:
    touch(config, "Mon 2026-01-05 10:00:01 UTC")
    assert decide(unit(FragmentPath=str(config)), [], []).action == "restart"
    assert decide(unit(DropInPaths=f"{config} /nowhere"), [], []).action == "restart"


def test_a_reload_counts_from_the_last_reload(config: Path) -> None:
    touch(config, "Mon 2026-01-05 10:30:00 UTC")
    assert decide(unit(), [], [str(config)]).action == "none"
    touch(config, "Mon 2026-01-05 11:00:01 UTC")
    assert decide(unit(), [], [str(config)]).action == "reload"


def test_a_link_that_was_moved_counts_as_changed(config: Path, tmp_path: Path) -> None:
    touch(config, STARTED)
    link = tmp_path / "current"
    link.symlink_to(config)
    assert newest([str(link)])[1] > parse_timestamp(RELOADED)


def test_a_unit_that_is_not_up_is_started_anew(config: Path) -> None:
    """It serves nobody, so nobody waits for its turn, and it can't be reloaded."""
    touch(config, "Mon 2026-01-05 11:00:01 UTC")
    assert decide(unit(ActiveState="activating"), [str(config)], []).action == "start"
    assert decide(unit(ActiveState="activating"), [], [str(config)]).action == "start"


def test_what_a_reload_would_read_is_told_beside_a_restart(config: Path) -> None:
    touch(config, "Mon 2026-01-05 11:00:01 UTC")
    assert decide(unit(), [str(config)], [str(config)]).action == "restart"
    assert unread(unit(), [str(config)]) == str(config)
    assert unread(unit(StateChangeTimestamp="Mon 2026-01-05 11:00:02 UTC"), [str(config)]) == ""


@pytest.mark.parametrize(
    ("changes", "seconds", "problem"),
    [
        ({}, 0, ""),
        ({"NRestarts": "2"}, 3, "started it again 2 times"),
        ({"NRestarts": "2"}, 11, ""),
        ({"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}, 99, "auto-restart"),
        ({"ActiveState": "failed", "SubState": "failed"}, 99, "failed"),
        ({"Type": "exec"}, 0.5, "just started"),
        ({"Type": "exec"}, 1.5, ""),
    ],
)
def test_a_unit_between_two_crashes_is_not_up(changes: dict[str, str], seconds: float, problem: str) -> None:
    found = unsteady(unit(**changes), parse_timestamp(STARTED) + seconds)
    assert problem in found if problem else found == ""
