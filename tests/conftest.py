"""Fixtures of the tests against a running lab.

The lab is the one named by LAB_NAME, TAG-test unless set (TAG is the clone's), so that no test stops a lab in use. It
is brought up by the first test that needs it, and taken down at the end if it was (``--keep-lab`` leaves it).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.lab_owner import own_lab
from tests.running import Run, Running, journal
from tools import running as deadlines
from tools.lab import ROOT, Lab, load
from tools.running import ssh_config

UP_SECONDS = 900


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the lab under test."""
    group = parser.getgroup("lab")
    group.addoption("--inventory", action="append", default=[], help="inventory of the lab under test")
    group.addoption("--extra", action="append", default=[], help="file of options, instead of tests/lab.yml")
    group.addoption("--keep-lab", action="store_true", help="leave the lab up that the tests brought up")
    group.addoption("--pace", type=float, default=1, help="multiply every deadline, for emulated machines")
    group.addoption("--every-moment", action="store_true", help="kill a first run at each of the moments, one by one")
    group.addoption("--use-lab", action="store_true", help="test the lab that is up, do not bring it up first")


def pytest_configure(config: pytest.Config) -> None:
    """Markers of these tests."""
    config.addinivalue_line("markers", "journal(*units): journals to print when the test fails, as unit@group")
    config.addinivalue_line("markers", "late(order): changes the lab; runs after the others, in this order")
    os.environ.setdefault("LAB_NAME", own_lab(str(ROOT), "test"))
    deadlines.pace = config.getoption("--pace")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that only look come first, then those that change the lab, in the order of their marks."""
    for item in items:
        if mark := item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(mark.args[0] * deadlines.pace), append=False)

    def order(item: pytest.Item) -> int:
        mark = item.get_closest_marker("late")
        return int(mark.args[0]) if mark else 0

    items.sort(key=order)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A failed test prints the journals of the units that it is about."""
    outcome = yield
    report = outcome.get_result()
    mark = item.get_closest_marker("journal")
    running = getattr(item, "funcargs", {}).get("running")
    if report.when == "call" and report.failed and mark and isinstance(running, Running):
        report.sections.append(("journals", journal(running, mark.args)))


class Watcher:
    """The program that keeps what processes show while the lab comes up."""

    def __init__(self, output: Path) -> None:
        self.output = output
        words = [sys.executable, str(ROOT / "tests" / "watch_processes.py"), str(output)]
        if os.geteuid() != 0:
            words = ["sudo", "-n", "--", *words, str(os.getuid())]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)

    def stop(self) -> bytes:
        """End it; everything that it saw."""
        if self.process.poll() is None:
            self.process.communicate(timeout=30)  # closes its standard input, which ends it
        return self.output.read_bytes()


@pytest.fixture(scope="session")
def bring_up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The lab, what its bringing-up printed, and what processes showed meanwhile."""
    options = request.config.option
    inventory = options.inventory or [str(ROOT / "inventories" / "containers")]
    extra = options.extra or [str(ROOT / "tests" / "lab.yml")]
    folder = tmp_path_factory.mktemp("lab")
    lab = load(inventory)
    running = Running(lab, inventory, extra, ssh_config(lab, folder))
    result: dict[str, Any] = {"running": running, "run": None, "seen": b""}
    existed = (running.lab.directory / "tls" / "ca.pem").exists()
    if not options.use_lab:
        watcher = Watcher(folder / "processes")
        result["run"] = running.playbook("-v", "site.yml", timeout=UP_SECONDS)
        result["seen"] = watcher.stop()
        (folder / "processes").unlink()
    yield result
    for machine in running.lab.machines:
        subprocess.run(
            ["ssh", "-F", str(running.ssh_config), "-O", "exit", machine.name], capture_output=True, check=False
        )
    if not options.use_lab and not options.keep_lab and not existed:
        running.playbook("playbooks/down.yml", extra=False)


@pytest.fixture(scope="session")
def first_run(bring_up: dict[str, Any]) -> Run:
    """The run that brought the lab up."""
    if bring_up["run"] is None:
        pytest.skip("with --use-lab nothing was brought up")
    run: Run = bring_up["run"]
    return run


@pytest.fixture(scope="session")
def running(bring_up: dict[str, Any]) -> Running:
    """The lab under test, up and healthy."""
    lab: Running = bring_up["running"]
    if bring_up["run"] is not None:
        assert bring_up["run"].code == 0, "the lab did not come up, see test_up.py"
    return lab


@pytest.fixture(scope="session")
def lab(running: Running) -> Lab:
    """The lab's data: machines, addresses, clients."""
    return running.lab


@pytest.fixture(scope="session")
def page(running: Running) -> str:
    """The page's address."""
    return running.page


@pytest.fixture
def consul(lab: Lab) -> Any:
    """A Consul client with the management token."""
    return lab.consul()


@pytest.fixture
def vault(lab: Lab) -> Any:
    """A Vault client with the administrator's token."""
    return lab.vault()


@pytest.fixture
def stopwatch() -> Callable[[], float]:
    """Seconds since the test began."""
    start = time.monotonic()
    return lambda: time.monotonic() - start
