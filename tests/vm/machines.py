"""What the long tests on virtual machines share: commands with their time, and what libvirt still has.

python -m tests.vm.machines INVENTORY runs the acceptance tests that do not depend on containers on the lab that is up.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import pytest

from tests.running import BIN, wait_until
from tools.lab import ROOT, Lab, load
from tools.vm_libvirt import POOLS

LEFT = re.compile(r"changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")
SECONDS = 5400
"""The longest step: a first `vagrant up` under emulation."""
NOT_HERE = ["test_preflight.py", "test_growth.py", "test_up.py"]
"""Acceptance tests of the containers inventory: its preflight, its way to grow, its first run."""
PACE = 5
"""What the tests' deadlines are multiplied by: these machines are slow where the processor is emulated."""


def run(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    status: int | None = 0,
) -> str:
    """Run a command in the project, print how long it took, and return what it printed.

    It must end with this status, None for any but success; timeout(1) ends what the command has started, too.
    """
    print(" ".join(command), end=": ", flush=True)
    started = time.monotonic()
    done = subprocess.run(
        ["timeout", "--kill-after=60", str(seconds), *command],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    print(f"{time.monotonic() - started:.0f} s, status {done.returncode}", flush=True)
    assert done.returncode == status or (status is None and done.returncode), done.stdout[-6000:]
    return done.stdout


def changes(output: str) -> int:
    """How many changes the recap of an Ansible run names; nothing may have failed."""
    recaps = [tuple(map(int, found)) for found in LEFT.findall(output)]
    assert recaps, output[-3000:]
    assert all(unreachable == failed == 0 for _changed, unreachable, failed in recaps)
    return sum(changed for changed, _unreachable, _failed in recaps)


def libvirt_has(name: str) -> list[str]:
    """Domains, networks, pools and disks of the lab that are still there."""
    found = []
    for kind in ("list", "net-list", "pool-list"):
        names = run(["virsh", "-c", "qemu:///system", "--quiet", kind, "--all", "--name"]).split()
        found += [f"{kind} {item}" for item in names if item == f"hl-{name}" or item.startswith(f"hl-{name}-")]
    return found + [str(path) for path in (POOLS / name).rglob("*")]


def lab_of(inventory: str, name: str) -> Lab:
    """The lab of an inventory, whose name the environment of pytest does not hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_NAME", name)
        return load([inventory])


def instances(lab: Lab) -> dict[str, str]:
    """Each backend instance and its state, as the page's API says."""
    answer = lab.get(f"{lab.pages()[0]}/api/instances", timeout=60)
    answer.raise_for_status()
    return {item["name"]: item["state"] for item in answer.json()["instances"]}


def wait_for(lab: Lab, wanted: set[str], seconds: float) -> None:
    """Wait until exactly the wanted instances pass."""

    def they_pass() -> bool:
        seen = instances(lab)
        assert {name for name, state in seen.items() if state == "passing"} == wanted, seen
        return True

    wait_until(they_pass, seconds, f"{wanted} pass", every=1)


def resolved(lab: Lab, service: str) -> set[str]:
    """The addresses that a process on the frontend gets for a name."""
    output = run(lab.group("frontend")[0].ssh("getent", "ahostsv4", service, timeout=60))
    return set(re.findall(r"^([\d.]+) +STREAM", output, re.MULTILINE))


def acceptance(inventory: str, name: str) -> None:
    """The acceptance tests that do not depend on containers, against this lab; with the options that they want."""
    environment = {"LAB_NAME": name}
    run([str(BIN / "ansible-playbook"), "-i", inventory, "-e", "@tests/lab.yml", "site.yml"], environment)
    # The users that are there live as long as the options said before.
    restart = ["-b", "-m", "ansible.builtin.systemd_service", "-a", "name=vault-agent state=restarted"]
    run([str(BIN / "ansible"), "-i", inventory, "backend", *restart], environment)
    ignore = [f"--ignore=tests/acceptance/{file}" for file in NOT_HERE]
    options = ["-q", "--use-lab", f"--inventory={inventory}", f"--pace={PACE}", *ignore]
    done = subprocess.run(  # showing what it prints: it takes a quarter of an hour
        [sys.executable, "-m", "pytest", *options, "tests/acceptance"],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, f"pytest ended with status {done.returncode}"


if __name__ == "__main__":
    acceptance(sys.argv[1], os.environ["LAB_NAME"])
