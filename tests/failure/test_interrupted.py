"""`make up` is killed in the middle, and run again ends green."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ssh_config
from tests.running import Running
from tools.lab import ROOT, load

# Killed as soon as the run prints this.
MOMENTS = [
    "TASK [Boot the machine]",
    "TASK [vault : ",
    "Initialise Vault",
    "TASK [backend : ",
]


@pytest.fixture
def second(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A small lab of its own beside the lab under test: one machine of each kind."""
    name = f"{running.lab.name[:8]}-x"
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
    small = Running(lab, inventory, running.extra, ssh_config(lab, tmp_path))
    yield small
    small.playbook("playbooks/down.yml", extra=False)


def kill_at(running: Running, moment: str, seconds: float = 400) -> bool:
    """Run site.yml, and kill it and its children the moment it prints ``moment``; whether it got there."""
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
    reached = False
    assert process.stdout
    for line in process.stdout:
        if moment in line:
            reached = True
            time.sleep(0.3)  # into the task, not before it: the moment itself is what is tested
            os.killpg(process.pid, signal.SIGKILL)
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
def test_a_killed_run_goes_on_where_it_was(second: Running) -> None:
    for moment in MOMENTS:
        assert kill_at(second, moment), f"the run never printed '{moment}'"
    second.playbook("site.yml").require()
    second.wait_healthy(60)
    assert second.playbook("site.yml").require().changed == {}
