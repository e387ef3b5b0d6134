"""What the tests against a running lab share beyond what its tools know of it: testinfra's view, traffic, journals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
import testinfra

from tools import running as deadlines
from tools.bench import descendants, parse_parent
from tools.lab import ROOT
from tools.running import BIN, Run, active, leader, members, primary, run_command, wait_until
from tools.running import Running as LabRunning

__all__ = [
    "BIN",
    "GROWTH",
    "Run",
    "Running",
    "Traffic",
    "active",
    "begin",
    "end",
    "journal",
    "leader",
    "members",
    "primary",
    "run_command",
    "wait_until",
]

GROWTH = ROOT / "tests" / "growth.yml"


@dataclass
class Running(LabRunning):
    """The lab under test."""

    hosts: dict[str, Any] = field(default_factory=dict)

    def host(self, name: str) -> Any:
        """A machine, as a testinfra host."""
        if name not in self.hosts:
            self.hosts[name] = testinfra.get_host(f"ssh://{name}", ssh_config=str(self.ssh_config))
        return self.hosts[name]

    def wait_database(self, seconds: float) -> None:
        """Wait until each backend has its database, so that notes can be written too."""

        def up() -> bool:
            answers = [self.backend(machine, "api/status").json() for machine in self.lab.group("backend")]
            return all(answer["database"]["status"] == "up" for answer in answers)

        wait_until(up, seconds, "each backend has its database")

    def checks(self, service: str) -> list[str]:
        """How Consul sees a service's instances: a word for each check."""
        return sorted(check["Status"] for check in self.lab.consul().health.checks(service)[1])


class Traffic:
    """Requests through the frontend while something else happens: ``with Traffic(...) as traffic: ...``.

    Bounded: at most ``count`` requests, ``rate`` a second from one thread, and no longer than ``seconds``.
    """

    def __init__(
        self, running: Running, path: str = "status", count: int = 200, rate: float = 40, seconds: float = 60
    ) -> None:
        self.url = f"{running.page}/api/{path}"
        self.authority = str(running.lab.authority)
        self.count, self.pause, self.seconds = count, 1 / rate, seconds * deadlines.pace
        self.codes: Counter[str] = Counter()
        self.problems: list[str] = []
        self.slowest = 0.0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def _send(self) -> None:
        session = requests.Session()
        session.trust_env = False
        session.verify = self.authority
        start = time.monotonic()
        for number in range(self.count):
            now = time.monotonic()
            if now - start > self.seconds or self._enough.is_set():
                return
            try:
                answer = session.get(self.url, timeout=10)
                self.codes[str(answer.status_code)] += 1
                if answer.status_code != 200:
                    self.problems.append(f"+{now - start:.2f} s, request {number}: {answer.text[:200]}")
            except requests.RequestException as error:
                self.codes[type(error).__name__] += 1
                self.problems.append(f"+{now - start:.2f} s, request {number}: {error}")
            self.slowest = max(self.slowest, time.monotonic() - now)
            self._enough.wait(max(0.0, self.pause - (time.monotonic() - now)))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._enough.set()
        self._thread.join(self.seconds + 15)

    def stop(self) -> None:
        """Send no more."""
        self._enough.set()
        self._thread.join(15)

    def require_no_failure(self, least: int = 1) -> None:
        """Every request was answered with 200."""
        assert sum(self.codes.values()) >= least, f"only {dict(self.codes)} were sent, {least} were wanted"
        assert set(self.codes) == {"200"}, f"{dict(self.codes)}: {self.problems[:5]}"


def begin(running: Running, *arguments: str, until: str) -> subprocess.Popen[str]:
    """A run of ansible-playbook that goes on, and has just printed a line with these words."""
    process = subprocess.Popen(
        running.command(*arguments),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=running.environment(),
    )
    for line in process.stdout or ():
        if until in line:
            return process
    raise AssertionError(f"ansible-playbook {' '.join(arguments)} ended without '{until}'")


def end(process: subprocess.Popen[str]) -> None:
    """Kill a run with all that it has started, workers and Mitogen, which have sessions of their own."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = parse_parent((folder / "stat").read_text(encoding="utf-8", errors="replace"))
    for pid in descendants(process.pid, parents):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def journal(running: Running, units: Sequence[str]) -> str:
    """The last lines of the journals of these units (``unit@group`` or ``unit@machine``), for a failed test."""
    parts = []
    for item in units:
        unit, _, where = item.partition("@")
        names = running.names(where) or [where]
        for name in names:
            try:
                lines = running.attempt(name, f"journalctl -u {unit} -n 40 --no-pager -o short-iso", timeout=10).stdout
            except (OSError, subprocess.SubprocessError) as error:
                lines = str(error)
            parts.append(f"--- {unit} on {name} ---\n{lines}")
    return "\n".join(parts)
