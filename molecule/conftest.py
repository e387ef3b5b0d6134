"""Fixtures of the roles' tests: the scenario's machines, from its inventory, and what several scenarios ask of them.

The tests run after the role's converge and after a reboot of every machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import pytest_runtest_makereport  # noqa: F401 (a failed test prints journals)
from tests.running import Running, wait_until
from tools.lab import ROOT, Lab, load
from tools.running import ssh_config

SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])


def pytest_configure(config: pytest.Config) -> None:
    """Markers of these tests."""
    config.addinivalue_line("markers", "journal(*units): journals to print when the test fails, as unit@group")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The scenario's machines."""
    inventory = [str(SCENARIO / "inventory" / "hosts.yml"), str(ROOT / "molecule" / "shared" / "inventory")]
    lab = load(inventory)
    config = ssh_config(lab, tmp_path_factory.mktemp("lab"))
    yield Running(lab, inventory, [], config)
    for machine in lab.machines:
        subprocess.run(["ssh", "-F", str(config), "-O", "exit", machine.name], capture_output=True, check=False)


@pytest.fixture(scope="session")
def lab(running: Running) -> Lab:
    """The scenario's data: machines, addresses, clients."""
    return running.lab


@pytest.fixture
def host(running: Running) -> Callable[[str], Any]:
    """A machine by its name, as a testinfra host."""
    return running.host


@pytest.fixture
def refuses(running: Running) -> Callable[..., str]:
    """Converge with wrong options (check mode): must fail; what Ansible printed, its lines joined."""

    def run(**options: Any) -> str:
        done = running.playbook("--check", "--extra-vars", json.dumps(options), str(SCENARIO / "converge.yml"))
        assert done.code != 0, f"{options} was accepted"
        return re.sub(r"[\s\\]+", " ", done.output)

    return run


@pytest.fixture
def exposure(running: Running) -> Callable[[str, str], float]:
    """What systemd makes of a unit's hardening: 0 (best) to 10."""

    def read(name: str, unit: str) -> float:
        last = running.sh(name, f"systemd-analyze security --no-pager {unit} | tail -n 1")
        found = re.search(r": (\d+\.\d+)", last)
        assert found, last
        return float(found[1])

    return read


@pytest.fixture
def kill(running: Running) -> Callable[[str, str], None]:
    """Kill a unit's main process, and wait until systemd has started another."""

    def run(name: str, unit: str) -> None:
        def main_pid() -> int:
            return int(running.sh(name, f"systemctl show --property MainPID --value {unit}"))

        old = wait_until(main_pid, 15, f"{unit} runs on {name}")
        running.sh(name, f"kill -KILL {old}")
        wait_until(lambda: main_pid() not in (0, old), 15, f"systemd starts {unit} on {name} again")

    return run


@pytest.fixture
def listening(running: Running) -> Callable[[str], set[str]]:
    """The addresses and ports off loopback on which a machine listens, as ``address:port``, TCP and UDP."""

    def read(name: str) -> set[str]:
        lines = running.sh(name, "ss -Hltun").splitlines()
        return {line.split()[4] for line in lines if not re.match(r"(127\.|\[::1\])", line.split()[4])}

    return read
