"""A lab's machines as the computer that holds them has them: it kills them, starts them, and cuts their network off."""

from __future__ import annotations

import contextlib
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plugins.module_utils.nspawn import machines
from tools.lab import LabError
from tools.preparing.running import as_root
from tools.running import Running, wait_until
from tools.vm_libvirt import virsh

TABLE = "failure"
"""The table of nft that cuts machines off."""


def nft(rules: str, *within: str) -> None:
    """Give rules to nft, ``within`` the network of a machine or on this computer."""
    subprocess.run(as_root([*within, "nft", "-f", "-"]), input=rules, text=True, check=True, capture_output=True)


class Machines(ABC):
    """What can be done to machines from outside of them."""

    def __init__(self, running: Running) -> None:
        self.lab = running.lab
        self.shell = running

    @abstractmethod
    def up(self) -> set[str]:
        """The names of those that run."""

    @abstractmethod
    def boot(self, name: str) -> str:
        """Which of its starts a machine is in; empty while that can't be said."""

    @abstractmethod
    def kill(self, names: Collection[str]) -> None:
        """End them, as a power cut would: no process of theirs has a moment more."""

    @abstractmethod
    def start(self, names: Collection[str]) -> float:
        """Start them, and wait for their ssh; when the first one started."""

    @abstractmethod
    def cut(self, name: str, coming: str, going: str) -> None:
        """Rules of nft for what comes to a machine and what goes from it; loopback stays."""

    @abstractmethod
    def join(self) -> None:
        """Undo that on all machines that run."""


class Containers(Machines):
    """Those of systemd-nspawn: processes of this computer."""

    def inner(self) -> dict[str, list[int]]:
        """To each machine that runs its first processes, seen from this computer."""
        roots = {f"{self.lab.machines_directory}/{machine.name}/root": machine.name for machine in self.lab.machines}
        found = {}
        for machine in machines():
            if machine.directory in roots:
                with contextlib.suppress(OSError):
                    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text(encoding="ascii")
                    found[roots[machine.directory]] = [int(word) for word in children.split()]
        return found

    def up(self) -> set[str]:
        """The names of those that run."""
        return set(self.inner())

    def boot(self, name: str) -> str:
        """The numbers of its first processes."""
        return " ".join(map(str, self.inner().get(name, [])))

    def kill(self, names: Collection[str]) -> None:
        """Kill their first processes, with which the kernel ends all others."""
        inner = self.inner()
        subprocess.run(as_root(["kill", "-KILL", *(str(pid) for name in names for pid in inner[name])]), check=True)

    def start(self, names: Collection[str]) -> float:
        """Start them as `make up` does."""
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(self.shell.playbook, "site.yml", "--tags", "machines")
            wait_until(lambda: run.done() or self.up() & set(names), 580, "a machine starts")
            since = time.monotonic()
            run.result().require()
        return since

    def cut(self, name: str, coming: str, going: str) -> None:
        """By rules in the machine's own network, given from outside of it."""
        chain = "chain {0} {{ type filter hook {0} priority -10; {1} lo accept; {2}; }}"
        chains = chain.format("input", "iif", coming) + "\n" + chain.format("output", "oif", going)
        nft(f"table inet {TABLE} {{\n{chains}\n}}\n", "nsenter", "-t", str(self.inner()[name][0]), "-n")

    def join(self) -> None:
        """Take the rules out of each network."""
        for pids in self.inner().values():
            nft(f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\n", "nsenter", "-t", str(pids[0]), "-n")


class Domains(Machines):
    """Those of libvirt, whichever tool made them."""

    def domain(self, name: str) -> str:
        """A machine's name in libvirt."""
        return f"hl-{self.lab.name}-{name}"

    def up(self) -> set[str]:
        """The names of those that run."""
        running = set(virsh("list", "--name").split())
        return {machine.name for machine in self.lab.machines if self.domain(machine.name) in running}

    def boot(self, name: str) -> str:
        """What its kernel says of it by ssh."""
        try:
            return self.shell.attempt(name, "cat /proc/sys/kernel/random/boot_id", timeout=10).stdout
        except subprocess.TimeoutExpired:
            return ""

    def kill(self, names: Collection[str]) -> None:
        """Pull the plug."""
        for name in names:
            virsh("destroy", self.domain(name))

    def start(self, names: Collection[str]) -> float:
        """Start them all, and wait for their ssh."""
        since = time.monotonic()
        for name in sorted(names):
            virsh("start", self.domain(name))
        wait_until(lambda: all(self.boot(name) for name in names), 120, f"{', '.join(names)} answer by ssh")
        return since

    def cut(self, name: str, coming: str, going: str) -> None:
        """By rules of this computer for the machine's port of its bridge."""
        ports = [line.split()[0] for line in virsh("domiflist", self.domain(name)).splitlines() if "hl-" in line]
        names = "{ " + ", ".join(f'"{port}"' for port in ports) + " }"
        chain = "chain {0} {{ type filter hook {0} priority -10; {1} }}"
        to, by = f"oifname {names} {coming};", f"iifname {names} {going};"
        chains = [chain.format("forward", f"{to} {by}"), chain.format("output", to), chain.format("input", by)]
        nft("\n".join([f"table bridge {TABLE} {{", *chains, "}\n"]))

    def join(self) -> None:
        """Take the rules away."""
        nft(f"table bridge {TABLE} {{}}\ndelete table bridge {TABLE}\n")


KINDS: dict[str, type[Machines]] = {"containers": Containers, "vagrant": Domains, "terraform": Domains}


def machines_of(running: Running) -> Machines:
    """The machines of a lab. Raises LabError where this computer does not hold them."""
    kind = KINDS.get(running.lab.kind)
    if kind is None:
        raise LabError("Machines are killed and cut off from the computer that holds them: it must be this one.")
    return kind(running)
