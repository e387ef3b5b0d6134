"""A running lab, for what is done to it from here: its machines over ssh, playbooks, SQL, and waiting."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import requests

from tools.lab import ROOT, Lab, LabError, Machine
from tools.status import ask_postgresql

BIN = Path(sys.executable).parent
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
T = TypeVar("T")


pace: float = 1
"""What each deadline is multiplied by (``--pace``): emulated machines do the same, only slower."""


def wait_until(condition: Callable[[], T], seconds: float, what: str, every: float = 0.1) -> T:
    """Repeat ``condition`` until it is true, and return its value.

    An exception counts as false: what is waited for is often not reachable yet.

    Raises:
        AssertionError: it was not true within ``seconds``; says what was last seen.

    """
    seconds *= pace
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = condition()
            if value:
                return value
            seen = repr(value)
        except Exception as error:  # whatever a client raises while its server is away
            seen = f"{type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s; last seen: {seen[:2000]}")
        time.sleep(every)


def ssh_config(lab: Lab, folder: Path) -> Path:
    """An ssh_config for the lab's machines, with one connection kept for each."""
    path = folder / "ssh_config"
    blocks = [machine.ssh_config(machine.name) for machine in keep_connections(lab, folder).machines]
    path.write_text("\n".join([*blocks, "Host *\n  ConnectTimeout 10\n"]), encoding="utf-8")
    path.chmod(0o600)
    return path


def keep_connections(lab: Lab, folder: Path) -> Lab:
    """The lab, with one connection kept for each machine, for whatever logs in to it."""
    options = (f"ControlPath={folder}/%C", "ControlMaster=auto", "ControlPersist=60")
    words = tuple(word for option in options for word in ("-o", option))
    machines = [replace(machine, ssh_arguments=(*machine.ssh_arguments, *words)) for machine in lab.machines]
    return replace(lab, machines=tuple(machines))


@dataclass(frozen=True)
class Run:
    """A command that has ended."""

    code: int
    output: str
    seconds: float

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """The counts of each host's line."""
        return {
            host: {"ok": int(ok), "changed": int(changed), "unreachable": int(away), "failed": int(failed)}
            for host, ok, changed, away, failed in RECAP.findall(self.output)
        }

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something, on the hosts where any did."""
        return {host: counts["changed"] for host, counts in self.recap.items() if counts["changed"]}

    def require(self) -> Run:
        """The run itself, which must have succeeded."""
        assert self.code == 0, f"exit code {self.code} after {self.seconds:.0f} s:\n{self.output[-6000:]}"
        return self


def run_command(command: Sequence[str], folder: Path, environment: dict[str, str], timeout: float) -> Run:
    """Run a command in a folder, with nothing to read; what it prints on both its outputs."""
    start = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
    )
    return Run(done.returncode, done.stdout, time.monotonic() - start)


@dataclass
class Running:
    """A lab, the inventory and the files of options that playbooks are given, and how ssh logs in to its machines."""

    lab: Lab
    inventory: list[str]
    extra: list[str]
    ssh_config: Path

    def sh(self, name: str, command: str, stdin: str | None = None, timeout: float = 60) -> str:
        """What a command prints on a machine; it must succeed."""
        done = self.attempt(name, command, stdin, timeout)
        assert done.returncode == 0, f"{name}: {command}: exit code {done.returncode}: {done.stderr} {done.stdout}"
        return done.stdout

    def attempt(
        self, name: str, command: str, stdin: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine, as root, whatever its exit code. ``stdin`` is on no command line."""
        if any(machine.name == name and machine.user != "root" for machine in self.lab.machines):
            command = f"sudo -n -- sh -c {shlex.quote(command)}"
        return subprocess.run(
            ["ssh", "-F", str(self.ssh_config), name, command],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def each(self, group: str, command: str, timeout: float = 60) -> None:
        """Run a command on all machines of a group at once; it must succeed."""
        with ThreadPoolExecutor(len(self.names(group))) as pool:
            list(pool.map(lambda name: self.sh(name, command, timeout=timeout), self.names(group)))

    def names(self, group: str) -> list[str]:
        """The names of a group's machines."""
        return [machine.name for machine in self.lab.group(group)]

    @property
    def page(self) -> str:
        """The page's address."""
        return self.lab.pages()[0]

    def api(self, path: str, method: str = "GET", timeout: float = 10, **options: Any) -> requests.Response:
        """The backend's API by way of the frontend."""
        return requests.request(
            method, f"{self.page}/api/{path}", verify=str(self.lab.authority), timeout=timeout, **options
        )

    def backend(
        self, machine: Machine, path: str, method: str = "GET", timeout: float = 5, user: str = "", **options: Any
    ) -> requests.Response:
        """One backend's API, asked directly; with its own certificate, or that of ``user`` (``MACHINE/SERVICE``)."""
        certificate = self.lab.directory / "tls" / (user or f"{machine.name}/backend")
        url, pair = f"https://{machine.address}:8443/{path}", (f"{certificate}.pem", f"{certificate}.key")
        return self.lab.request(method, url, timeout, cert=pair, **options)

    def playbook(
        self, *arguments: str, inventory: Sequence[str] | None = None, extra: bool = True, timeout: float = 580
    ) -> Run:
        """Run ansible-playbook with the lab's inventory and the test lab's options."""
        command = self.command(*arguments, inventory=inventory, extra=extra)
        return run_command(command, ROOT, self.environment(), timeout)

    def command(self, *arguments: str, inventory: Sequence[str] | None = None, extra: bool = True) -> list[str]:
        """The command line of a playbook."""
        words = [str(BIN / "ansible-playbook")]
        for source in self.inventory if inventory is None else inventory:
            words += ["-i", source]
        for file in self.extra if extra else []:
            words += ["-e", f"@{file}"]
        return [*words, *arguments]

    def environment(self) -> dict[str, str]:
        """The environment of a playbook: as a user's, for this lab, without colours."""
        return {**os.environ, "LAB_NAME": self.lab.name, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}

    def status(self) -> subprocess.CompletedProcess[str]:
        """What `make status` runs."""
        words = [sys.executable, "-m", "tools.status", "--json"]
        for source in self.inventory:
            words += ["-i", source]
        return subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=self.environment()
        )

    def wait_healthy(self, seconds: float) -> None:
        """Wait until the status command is content."""

        def content() -> bool:
            done = self.status()
            if done.returncode:
                raise AssertionError("\n".join(line for line in done.stdout.splitlines() if "bad" not in line)[-1500:])
            return True

        wait_until(content, seconds, "make status exits 0", every=0.5)

    def count(self) -> int:
        """How many backends the page's API calls active."""
        return int(self.api("instances").json()["count"])

    def sql(self, statement: str, database: str = "lab") -> str:
        """What PostgreSQL's superuser reads, on the primary; the statement goes by stdin."""
        name = primary(self) or self.names("database")[0]
        return self.sh(name, f"psql -U postgres -XAtq -v ON_ERROR_STOP=1 -d {database}", statement).strip()


def leader(running: Running) -> str:
    """The machine of Consul's leader, asked of every server in turn."""
    by_address = {machine.address: machine.name for machine in running.lab.group("control")}
    for machine in running.lab.group("control"):
        with contextlib.suppress(Exception):
            address = str(running.lab.consul(machine).status.leader()).rpartition(":")[0]
            if address in by_address:
                return by_address[address]
    return ""


def active(running: Running) -> str:
    """The machine of Vault's active node."""
    for machine in running.lab.group("control"):
        with contextlib.suppress(Exception):
            health = running.lab.get(f"https://{machine.address}:8200/v1/sys/health?standbyok=true", timeout=2).json()
            if health["standby"] is False:
                return machine.name
    return ""


def members(running: Running) -> dict[str, dict[str, Any]]:
    """The database's machines by name as Patroni knows them (``role``, ``state``, ``lag``), asked of each in turn."""
    with contextlib.suppress(requests.RequestException, LabError):
        return {member["name"]: member for member in ask_postgresql(running.lab, 2)["members"]}
    return {}


def primary(running: Running) -> str:
    """The machine of the database's primary."""
    return next((name for name, member in members(running).items() if member["role"] == "leader"), "")
