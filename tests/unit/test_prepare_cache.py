"""The cache folder: whole artifacts or none, made once however many ask."""

import threading
from pathlib import Path

import pytest

from tools.preparing import cache
from tools.preparing.running import PrepareError, run


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_folder_ignores_a_relative_cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache/hashistack-lab"


def test_digest_tells_apart_what_only_looks_alike_when_joined(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("b")
    assert cache.digest("a", tmp_path / "file") == cache.digest("a", "b")
    assert cache.digest("ab") != cache.digest("a", "b")
    assert cache.digest("a", "bc") != cache.digest("ab", "c")


def test_artifact_is_made_once_and_then_cached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def make(work: Path) -> None:
        calls.append(work)
        (work / "file").write_text("whole")

    for _ in range(2):
        assert (cache.artifact(tmp_path / "kind/thing-1", make) / "file").read_text() == "whole"
    assert len(calls) == 1
    assert "thing-1: cached" in capsys.readouterr().out


def test_a_failure_leaves_nothing_and_the_next_run_makes_it(tmp_path: Path) -> None:
    def broken(work: Path) -> None:
        (work / "half").write_text("half")
        raise PrepareError("no")

    with pytest.raises(PrepareError):
        cache.artifact(tmp_path / "thing", broken)
    assert list(tmp_path.glob("*thing*")) == []
    cache.artifact(tmp_path / "thing", lambda work: (work / "file").touch())
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["file"]


def test_remains_of_a_killed_run_do_not_get_in(tmp_path: Path) -> None:
    remains = tmp_path / ".thing.unfinished"
    remains.mkdir()
    (remains / "half").touch()
    cache.artifact(tmp_path / "thing", lambda work: (work / "file").touch())
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["file"]
    assert not remains.exists()


def test_two_runs_at_once_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, waiting, go_on = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(cache, "say", lambda _, text: waiting.set() if "waiting for it" in text else None)
    calls = []

    def make(work: Path) -> None:
        calls.append(work)
        started.set()
        assert go_on.wait(10)

    threads = [threading.Thread(target=cache.artifact, args=(tmp_path / "thing", make)) for _ in range(2)]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    assert waiting.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(calls) == 1
    assert (tmp_path / "thing").is_dir()


def test_write_replaces_and_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "new/file"
    for text in ("one", "two"):
        cache.write(path, text, 0o640)
        assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_run_says_what_is_missing_and_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("step", ["printf", "text"]) == "text"
    with pytest.raises(PrepareError, match="'no-such-program' is missing"):
        run("step", ["no-such-program"])
    with pytest.raises(PrepareError, match="status 3"):
        run("step", ["sh", "-c", "echo the reason >&2; exit 3"])
    assert "the reason" in capsys.readouterr().err
