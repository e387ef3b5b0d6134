"""`make up` is killed in the middle, and run again ends green.

`make test` kills one lab's run at four moments, others each day; `make killed` kills twenty first runs, one at each.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.running import Running
from tools.lab import ROOT, load
from tools.running import ssh_config


class Moment(NamedTuple):
    """When a run is killed: ``delay`` seconds after it prints a task's header."""

    task: str  # how the header begins
    nth: float  # or, with no task, which one: a fraction of all tasks
    delay: float = 0.3  # into the task, not before it: the moment itself is what is tested

    def __str__(self) -> str:
        return f"{self.task or f'{self.nth:.0%} of the tasks'} + {self.delay} s"


EVENLY = [Moment("", number / 15) for number in range(1, 15)]
# Where something is half done for long, or can't be done twice.
NASTY = [
    Moment("Generate the key that logs in", 0, 0),
    Moment("Boot the machine", 0, 0.1),
    Moment("Boot the machine", 0, 2),
    Moment("packages : Install the packages", 0, 1.5),
    Moment("Initialise Vault, if it is new", 0, 0.2),
    Moment("packages : Install the packages", 0.5, 2),
]
MOMENTS = EVENLY + NASTY
CHAINS = 5
TODAY = int(time.time() / 86400) % CHAINS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One chain of moments, another one each day, or each moment by itself; the key is generated in a new lab only."""
    every = metafunc.config.getoption("--every-moment")
    chains = [[moment] for moment in MOMENTS] if every else [NASTY[TODAY::CHAINS] + EVENLY[TODAY::CHAINS]]
    metafunc.parametrize("moments", chains, ids=[", ".join(map(str, chain)) for chain in chains])


@pytest.fixture
def second(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A small lab of its own beside the lab under test: one machine of each kind."""
    name = f"{os.environ['LAB_NAME'][:8]}-x"
    monkeypatch.setenv("LAB_NAME", name)
    copy = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventories" / "containers", copy)
    hosts = yaml.safe_load((copy / "hosts.yml").read_text(encoding="utf-8"))
    for group in hosts["lab"]["children"].values():
        for host in list(group["hosts"])[1:]:
            del group["hosts"][host]
    (copy / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    inventory = [str(copy)]
    lab = load(inventory)
    extra = request.config.getoption("--extra") or [str(ROOT / "tests" / "lab.yml")]
    own = tmp_path / "layers.yml"
    own.write_text("lab_layers: {}\n", encoding="utf-8")  # Packages are installed by the roles, and that is killed too.
    extra = [*extra, str(own)]
    small = Running(lab, inventory, extra, ssh_config(lab, tmp_path))
    small.playbook("playbooks/down.yml", extra=False)
    yield small
    small.playbook("playbooks/down.yml", extra=False)


def count_tasks(running: Running) -> int:
    """How many tasks a run has, those aside that it includes only as it goes."""
    return len(
        re.findall(r"^      .*\tTAGS:", running.playbook("site.yml", "--list-tasks").require().output, re.MULTILINE)
    )


def kill_at(running: Running, moment: Moment, tasks: int, seconds: float = 400) -> str:
    """Run site.yml, and kill it and its children at a moment; in which task that was, empty if it never came."""
    process = subprocess.Popen(
        running.command("site.yml"),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=running.environment(),
        start_new_session=True,
    )
    timer = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    start = time.monotonic()
    reached, seen = "", 0
    assert process.stdout
    for line in process.stdout:
        seen += line.startswith("TASK [")
        if line.replace("hashistack.lab.", "").startswith(f"TASK [{moment.task}") and seen >= moment.nth * tasks:
            time.sleep(moment.delay)
            os.killpg(process.pid, signal.SIGKILL)
            reached = f"{line.rstrip().rstrip(' *')}, number {seen}, after {time.monotonic() - start:.0f} s"
            break
    process.stdout.close()
    process.wait()
    timer.cancel()
    end_orphans(running.inventory[0])
    return reached


def end_orphans(inventory: str) -> None:
    """Kill what Mitogen has put into sessions of its own; its command line names the test's own inventory."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if inventory.encode() in words:
                os.kill(int(folder.name), signal.SIGKILL)


@pytest.mark.late(20)
@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_where_it_was(second: Running, moments: list[Moment]) -> None:
    tasks = count_tasks(second)
    for moment in moments:
        reached = kill_at(second, moment, tasks)
        assert reached, f"the run never came to {moment}"
        print(f"\nkilled in {reached}")
    run = second.playbook("site.yml").require()
    print(f"the next run took {run.seconds:.0f} s")
    second.wait_healthy(60)
    assert second.playbook("site.yml").require().changed == {}
