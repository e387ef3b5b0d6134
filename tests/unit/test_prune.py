"""What goes out of the cache, and what never does."""

import fcntl
import os
import sys
import time
from pathlib import Path

import pytest

from tools.preparing import cache, prune


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own with an old and a new artifact of each kind, written by whoever runs this."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(prune, "as_root", list)
    monkeypatch.setattr(cache, "as_root", list)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "hashistack-lab/venv-new"))
    folder = cache.folder()
    for kind in prune.KINDS:
        for age in ("old", "new"):
            make(folder / kind / f"{kind}-{age}", days=prune.DAYS + 1 if age == "old" else prune.DAYS - 1)
    for age in ("old", "new"):
        (folder / f"venv-{age}").mkdir()
        (folder / f"venv-{age}/complete").touch()
        let_rest(folder / f"venv-{age}/complete", prune.DAYS + 1)  # the one in use is as old
    return folder


def make(path: Path, days: float) -> None:
    cache.artifact(path, lambda work: (work / "file").touch())
    let_rest(cache.lock_of(path), days)


def let_rest(path: Path, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def there(folder: Path) -> set[str]:
    return {path.name for kind in prune.KINDS for path in (folder / kind).iterdir()} | {
        path.name for path in folder.glob("venv-*")
    }


NEW = {*(f"{kind}-new" for kind in prune.KINDS), "venv-new"}


def test_what_nobody_asked_for_in_time_goes_and_is_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    removed = prune.prune(tmp_path / "machines")
    assert there(place) == NEW
    assert {path.name for path in removed} == {*(f"{kind}-old" for kind in prune.KINDS), "venv-old"}
    said = capsys.readouterr().out
    assert all(f"removed {path.name}, which nobody used for 60 days" in said for path in removed)
    assert prune.prune(tmp_path / "machines") == []


def test_whoever_asks_for_an_artifact_keeps_it(place: Path, tmp_path: Path) -> None:
    cache.artifact(place / "programs/programs-old", lambda _: pytest.fail("it is there"))
    prune.prune(tmp_path / "machines")
    assert there(place) == NEW | {"programs-old"}


def test_what_a_container_stands_on_stays_however_old(place: Path, tmp_path: Path) -> None:
    machine = tmp_path / "machines/another-users-lab/backend-1"
    machine.mkdir(parents=True)
    (machine / "base").write_text(f"{place}/layers/layers-old:{place}/base/base-old")
    second = machine.with_name("backend-2")
    second.mkdir()
    (second / "base").write_text(f"{place}/layers/layers-new:{place}/base/base-new")
    prune.prune(tmp_path / "machines")
    assert there(place) == NEW | {"layers-old", "base-old"}


def test_what_a_run_is_making_stays_and_what_a_killed_one_left_goes(place: Path, tmp_path: Path) -> None:
    for name in ("made", "left"):
        (place / f"base/.{name}.unfinished").mkdir()
        cache.lock_of(place / "base" / name).touch()
        let_rest(cache.lock_of(place / "base" / name), prune.DAYS + 1)
    with cache.lock_of(place / "base/made").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        prune.prune(tmp_path / "machines")
    assert there(place) == NEW | {".made.unfinished"}


def test_what_is_of_before_locks_counts_from_now(place: Path, tmp_path: Path) -> None:
    for lock in (place / "locks").iterdir():
        lock.unlink()
    prune.prune(tmp_path / "machines")
    assert {f"{kind}-old" for kind in prune.KINDS} <= there(place)
    assert cache.lock_of(place / "base/base-old").exists()
