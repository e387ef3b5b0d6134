"""Whose a lab is, of which kind, and who works on it: what may pass, and what each refusal says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plugins.action.preflight import check_lab_name
from plugins.module_utils import lab_owner
from plugins.module_utils.lab_owner import Owner, RefusedError
from tools.lab import ROOT

MINE = Owner("/home/ann/lab", "ann", "1")


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """A clone's folder of the lab ``lab``, as it stands after the first run."""
    path = str(tmp_path / "clone" / ".lab" / "lab")
    (tmp_path / "clone").mkdir()
    lab_owner.settle(path, "containers")
    return path


@pytest.mark.parametrize(
    ("owner", "options"),
    [
        (None, {}),
        (MINE, {}),
        (Owner("/home/ann/lab", "root", "1"), {}),  # By sudo.
        (Owner("/home/ann/lab", "ann", "2"), {"keys": True}),  # Restored without its lab.json.
        (Owner("/home/ann/lab", "ann", "2"), {"removing": True}),
        (Owner("/home/ann/moved", "ann", "1"), {"adopt": True}),
        (Owner("/home/ann/moved", "ann", "2"), {"adopt": True, "keys": True}),
        (Owner("/nowhere", "bob", "2"), {"adopt": True, "removing": True}),
    ],
)
def test_a_lab_of_ones_own(owner: Owner | None, options: dict[str, bool]) -> None:
    lab_owner.check_owner("lab", "containers", owner, MINE, **options)


@pytest.mark.parametrize(
    ("owner", "options", "says"),
    [
        (Owner("/nowhere", "bob", "2"), {}, ["/nowhere (user bob)", "LAB_NAME=other make up", "make down ADOPT=1"]),
        (Owner("/nowhere", "bob", "2"), {"adopt": True}, ["/nowhere", "make down ADOPT=1"]),
        (Owner("/nowhere", "bob", "2"), {"removing": True}, ["/nowhere", "make down ADOPT=1"]),
        (Owner("/nowhere", "bob", "1"), {}, ["/nowhere", "moved or restored, 'LAB_NAME=lab make up ADOPT=1'"]),
        (Owner("/home/ann/lab", "ann", "2"), {}, ["its keys are not in .lab/lab", "LAB_NAME=lab make down"]),
        (Owner("/home/ann/lab", "ann", "2"), {"adopt": True}, ["its keys are not in .lab/lab"]),
    ],
)
def test_a_lab_of_another(owner: Owner, options: dict[str, bool], says: list[str]) -> None:
    with pytest.raises(RefusedError) as refusal:
        lab_owner.check_owner("lab", "containers", owner, MINE, **options)
    text = str(refusal.value)
    assert all(part in text for part in says), text
    assert text.count(". ") == 0
    assert text.endswith(".")


def test_a_lab_whose_owner_still_has_its_keys_is_removed_only_there(directory: str) -> None:
    folder = directory.removesuffix("/.lab/lab")
    with pytest.raises(RefusedError, match=f"belongs to the clone in {folder} .*work there"):
        lab_owner.check_owner("lab", "containers", Owner(folder, "bob", "2"), MINE, adopt=True, removing=True)


def test_an_owner_survives_being_written_down() -> None:
    assert lab_owner.parse_owner(MINE.as_json()) == MINE
    assert lab_owner.parse_owner("") is None
    assert lab_owner.parse_owner("[]") is None


def test_a_lab_keeps_its_id(directory: str) -> None:
    lab_id = lab_owner.read_lab(directory)["id"]
    assert lab_owner.settle(directory, "vagrant") == lab_id
    assert lab_owner.read_lab(directory) == {"id": lab_id, "kind": "containers"}
    assert lab_owner.this_clone(directory[:-8], directory).id == lab_id
    assert lab_owner.settle(directory, "containers", "another") == "another"
    assert Path(directory).stat().st_mode & 0o777 == 0o700
    assert Path(directory, "lab.json").stat().st_mode & 0o777 == 0o600


def test_a_command_for_another_kind_is_refused(directory: str) -> None:
    lab_owner.check_kind("lab", directory, "containers")
    with pytest.raises(RefusedError) as refusal:
        lab_owner.check_kind("lab", directory, "vagrant")
    for part in (
        "is of kind containers",
        "LAB_NAME=other make vagrant-up",
        "unset LAB_NAME",
        "'LAB_NAME=lab make down'",
    ):
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("pinned", "expected"),
    [("backend-1", ("containers",)), ("10.80.1.11", ("vagrant", "terraform")), (None, ())],
)
def test_the_kind_of_a_lab_that_does_not_say_it(tmp_path: Path, pinned: str | None, expected: tuple[str, ...]) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "id_ed25519").touch()
    if pinned:
        (tmp_path / "ssh" / f"known_hosts.{pinned}").touch()
    assert lab_owner.kinds(str(tmp_path)) == expected
    assert lab_owner.kinds(str(tmp_path / "none")) == ()


def test_clones_test_in_labs_of_different_names() -> None:
    names = {lab_owner.own_lab(f"/home/{user}/lab", "test") for user in ("ann", "bob", "eve")}
    assert len(names) == 3
    assert not [problem for name in names for problem in check_lab_name(f"{name}-x")]


Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def another(directory: str) -> Iterator[Start]:
    """Starts a process that holds the lab until it is killed, or says why it does not."""
    code = (
        "import sys, time\nfrom plugins.module_utils import lab_owner\n"
        f"try:\n    lab_owner.hold('lab', {directory!r})\n"
        "except lab_owner.RefusedError as refusal:\n    sys.exit(print(refusal))\n"
        "print('held', flush=True)\ntime.sleep(60)"
    )
    started = []

    def start() -> subprocess.Popen[str]:
        started.append(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    """What a process says first."""
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_second_process_is_told_who_holds_the_lab(directory: str, another: Start) -> None:
    first = another()
    assert first_line(first) == "held"
    with pytest.raises(RefusedError) as refusal:
        lab_owner.hold("lab", directory)
    text = str(refusal.value)
    assert f"by process {first.pid} of user" in text
    assert f"'kill {first.pid}'" in text
    assert json.loads(Path(directory, "lock").read_text())["since"] in text


def test_what_a_killed_process_held_is_taken_over(directory: str, another: Start) -> None:
    first = another()
    assert first_line(first) == "held"
    os.kill(first.pid, signal.SIGKILL)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # It is dead, but its parent has not asked yet.
    lab_owner.hold("lab", directory)


def test_a_process_of_the_same_number_is_another(directory: str) -> None:
    lab_owner.hold("lab", directory)
    lock = Path(directory, "lock")
    values = json.loads(lock.read_text())
    values["process"] |= {"pid": 1, "started": values["process"]["started"] + 1}
    lock.write_text(json.dumps(values))
    lab_owner.hold("lab", directory)
    assert json.loads(lock.read_text())["process"]["pid"] == os.getpid()


def test_what_a_process_holds_its_children_may_use(directory: str, another: Start) -> None:
    lab_owner.hold("lab", directory)
    assert first_line(another()) == "held"


def test_one_of_many_at_once_gets_the_lab(another: Start) -> None:
    lines = [first_line(process) for process in [another() for _ in range(8)]]
    assert sorted(line.partition(" ")[0] for line in lines) == ["Lab"] * 7 + ["held"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"command": "x", "user": "x", "since": "x", "process": {}}'])
def test_a_lock_that_says_nothing_holds_nobody(directory: str, content: str) -> None:
    Path(directory, "lock").write_text(content)
    lab_owner.hold("lab", directory)
