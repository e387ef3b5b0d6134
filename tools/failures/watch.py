"""What looks at a lab while it is broken: the client, its frontend's DNS, all of its services, and `make status`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from tools import running, status
from tools.failures.client import Request, Settings
from tools.failures.scene import UNSEEN, Asked, Look, Scene, failing
from tools.lab import CONSUL_PORT, ROOT, VAULT_PORT, Machine
from tools.running import Running


class Load:
    """The client, in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self.requests: list[Request] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.failures.client"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin
        print(json.dumps(dataclasses.asdict(settings)), file=self.process.stdin, flush=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.requests.append(Request(**json.loads(line)))

    def failures(self) -> int:
        """How many have failed so far."""
        return sum(not request.good for request in list(self.requests))

    def stop(self) -> list[Request]:
        """Send no more, and wait for the answers that are due."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
        self.reader.join(10)
        return sorted(self.requests, key=lambda request: request.number)


class Names:
    """Asks a machine's own DNS server for names, all the time."""

    def __init__(self, running: Running, machine: str, names: Sequence[str]) -> None:
        self.seen: list[tuple[float, dict[str, list[str]]]] = []
        program = (Path(__file__).parent / "names.py").read_text(encoding="utf-8")
        # By a file of its own, since its standard input says when it ends.
        running.sh(machine, "cat > /run/lab-names.py", stdin=program)
        self.process = subprocess.Popen(
            ["ssh", "-F", str(running.ssh_config), machine, "python3 -S /run/lab-names.py " + " ".join(names)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.seen.append((time.monotonic(), json.loads(line)))

    def stop(self) -> list[tuple[float, dict[str, list[str]]]]:
        """All that changed."""
        with contextlib.suppress(OSError):
            self.process.communicate(timeout=10)
        self.process.kill()
        return self.seen


class Watch:
    """Looks at the lab each half second: whether all is as it was before."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.session = scene.lab.session()
        self.token = scene.lab.secrets().get("consul_management", "")
        self.servers = scene.lab.group("control")
        self.pool = ThreadPoolExecutor(16)
        self.looks: list[Look] = []
        self.checks = 0
        self.unheard: list[str] = []
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True)

    def get(self, machine: Machine, port: int, path: str, **options: Any) -> Any:
        """What a service of a machine says. A dead machine is given up soon, since each look waits for it."""
        url, deadlines = f"https://{machine.address}:{port}/{path}", (running.pace * 0.4, running.pace)
        return self.session.get(url, timeout=deadlines, headers={"X-Consul-Token": self.token}, **options).json()

    def consul(self, path: str) -> Any:
        """What a server of Consul says that answers; one that does not is asked last the next time."""
        for machine in self.servers:
            try:
                return self.get(machine, CONSUL_PORT, path)
            except (requests.RequestException, ValueError) as error:
                caught = error
                self.servers = [server for server in self.servers if server != machine] + [machine]
        raise caught

    def backend(self, machine: Machine) -> Any:
        """What a backend says of itself."""
        path = self.scene.lab.directory / "tls" / machine.name / "backend"
        return self.get(machine, 8443, "api/status", cert=(f"{path}.pem", f"{path}.key"))

    def page(self) -> Any:
        """What the page's API says of the backends."""
        url, authority = f"{self.scene.page}/api/instances", str(self.scene.lab.authority)
        return self.session.get(url, timeout=2 * running.pace, verify=authority).json()["instances"]

    def shown(self) -> str:
        """The problem that the page tells of."""
        html = self.session.get(
            f"{self.scene.page}/", timeout=2 * running.pace, verify=str(self.scene.lab.authority)
        ).text
        found = re.search(r'<html[^>]* data-problem="(\w*)"', html)
        return found[1] if found else ""

    def look(self) -> Look:
        """Look once."""
        lab, at, ask = self.scene.lab, time.monotonic(), self.pool.submit
        codes = "standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200"
        vaults = {x.name: ask(self.get, x, VAULT_PORT, f"v1/sys/health?{codes}") for x in lab.group("control")}
        leaders = {x.name: ask(self.get, x, CONSUL_PORT, "v1/status/leader") for x in lab.group("control")}
        checks = ask(self.consul, "v1/health/state/any?stale")
        health = ask(self.consul, "v1/operator/autopilot/health")
        backends = {x.name: ask(self.backend, x) for x in lab.group("backend")}
        page, problem = ask(self.page), ask(self.shown)
        problems = []

        def value(what: str, future: Any, otherwise: Any) -> Any:
            try:
                return future.result()
            except (requests.RequestException, ValueError, KeyError, TypeError) as error:
                problems.append(f"{what}: {status.reason(error)}")
                return otherwise

        told_vault = {name: value(f"Vault of {name}", future, {}) for name, future in vaults.items()}
        told_leader = {value(f"Consul of {name}", future, "") for name, future in leaders.items()} - {""}
        names = {machine.address: machine.name for machine in lab.machines}
        leader = names.get(min(told_leader).rpartition(":")[0], "") if len(told_leader) == 1 else ""
        active = [name for name, told in told_vault.items() if told.get("standby") is False and not told.get("sealed")]
        unsealed = sum(told.get("sealed") is False for told in told_vault.values())
        states = value("checks", checks, [])
        # A machine that stands by passes its other name's check.
        other = {entry["standby"]: name for name, entry in lab.services.items() if "standby" in entry}
        places = [(x["Node"], other.get(x["ServiceName"], x["ServiceName"]) or x["CheckID"]) for x in states]
        well = {place for place, x in zip(places, states, strict=True) if x["Status"] == "passing"}
        wrong = [f"{x['Node']} {x['Name']}" for place, x in zip(places, states, strict=True) if place not in well]
        instances, shown = value("the page's API", page, []), value("the page", problem, "")
        problems += [failing(name) for name in wrong]
        if len(states) < self.checks:
            problems.append(f"{len(states)} checks of {self.checks}")
        if not value("raft", health, {}).get("Healthy"):
            problems.append("Consul's raft is not healthy")
        if not leader:
            problems.append("Consul has no leader")
        if unsealed < len(told_vault) or len(active) != 1:
            problems.append(f"Vault: {unsealed} unsealed, {len(active)} active")
        for name, future in backends.items():
            if value(name, future, {}).get("database", {}).get("status") != "up":
                problems.append(f"{name}: no database")
        if [x["name"] for x in instances if x["state"] == "passing"] != sorted(backends):
            problems.append(UNSEEN)
        self.checks = max(self.checks, len(states))
        versions = frozenset(str(x["version"]) for x in instances)
        return Look(at, "; ".join(problems)[:400], leader, active[0] if active else "", unsealed, versions, shown)

    def ask_agents(self) -> None:
        """See which checks fail for Consul's servers only: what the machine's own agent reported was lost."""
        header = f"X-Consul-Token: {self.token}\n"

        def passing(name: str) -> set[tuple[str, str]]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                told = self.scene.attempt(name, "curl -sf -H @- http://127.0.0.1:8500/v1/agent/checks", header).stdout
                return {(name, key) for key, check in json.loads(told or "{}").items() if check["Status"] == "passing"}
            return set()

        agents = set[tuple[str, str]]().union(*self.pool.map(passing, (x.name for x in self.scene.lab.machines)))
        # Asked after them, so that what has just been reported is no lost word.
        try:
            servers = self.consul("v1/health/state/any")
        except (requests.RequestException, ValueError):
            return
        wrong = [x for x in servers if x["Status"] != "passing" and (x["Node"], x["CheckID"]) in agents]
        self.unheard = [f"{x['Node']} {x['Name']}" for x in wrong]

    def _loop(self) -> None:
        pause = 0.5
        while not self.enough.wait(pause):
            self.looks.append(self.look())
            pause = max(0.1, self.looks[-1].at + 0.5 - time.monotonic())

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.enough.set()
        self.thread.join(10)
        self.pool.shutdown(wait=False)

    def well(self) -> tuple[float, float] | None:
        """From which look on all has been well, and until which: the last one. None where it is not."""
        since = until = None
        for look in list(self.looks):
            since, until = (since or look.at, look.at) if not look.problem else (None, None)
        return (since, until) if since and until else None


@contextlib.contextmanager
def asking_status(scene: Scene, every: float) -> Iterator[list[Asked]]:
    """Ask what `make status` does, again and again, a pause after each."""
    asked: list[Asked] = []
    enough = threading.Event()

    def ask() -> None:
        # The client has the processor first: what it waits for is the fault, and not whoever looks at it.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while not enough.wait(every if asked else every / 4):
            began = time.monotonic()
            lines = status.collect(scene.lab)
            asked.append(Asked(began, time.monotonic(), status.verdict(lines) != "unhealthy", lines))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        enough.set()
        thread.join(30)


def ask_once(scene: Scene) -> Asked:
    """What `make status` says now."""
    began = time.monotonic()
    lines = status.collect(scene.lab)
    return Asked(began, time.monotonic(), status.verdict(lines) != "unhealthy", lines)
