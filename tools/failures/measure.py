"""Breaks a lab while a client uses it, and looks: at every answer, at DNS, at what `make status` says meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import requests

from plugins.module_utils.nspawn import machines
from tools import status
from tools.failures.client import Request, Settings
from tools.lab import CONSUL_PORT, ROOT, VAULT_PORT, LabError, Machine
from tools.running import Running, wait_until

RATE = 40
"""Requests a second."""
LONGEST = 900
"""Seconds after which the client ends, whatever happens."""
BEFORE = 2.0
"""Seconds in which the client sees the lab as it was."""
AFTER = 2.0
"""Seconds for which all must have been well before it counts as healed."""
LEAST = 5.0
"""Seconds of requests that are measured at least, from the moment at which something broke."""
SLACK = 1.0
"""Seconds by which a status may be late: what ended so long before it was asked, or began after, may be told or not."""
ROOM = 0.3
"""Seconds that the way to and fro may take besides a deadline."""
NAMES = ("backend.service.consul", "postgresql.service.consul")
TABLE = "failure"
"""The table of nft that cuts a machine off."""


def as_root(*words: str) -> list[str]:
    """A command line that runs as root on this computer."""
    return list(words) if os.geteuid() == 0 else ["sudo", "-n", "--", *words]


@dataclass(frozen=True)
class Marks:
    """What must hold, in seconds; None is not judged."""

    failed: int | None = 0
    """Requests that may fail."""
    answer: float | None = None
    """Requests may fail, if each is answered with 503 in JSON within so many seconds."""
    absence: float = 0.0
    """But none within so many seconds from the break."""
    p99: float | None = None
    """Of the answers while it is broken."""
    out: float | None = None
    """From the break until the victim's address is out of DNS, or until it serves again."""
    stays: bool = False
    """No backend's address may leave DNS."""
    healed: float | None = None
    """From the end of the break, or what mends it, until all is as before."""


def nothing(_scene: Scene) -> None:
    """Nothing is to be done."""


def no_more(_scene: Scene, _seen: Seen) -> list[str]:
    """No marks of a fault's own."""
    return []


@dataclass(frozen=True)
class Fault:
    """Something that breaks. ``breaks`` and ``mends`` each may run in a process that knows nothing of the other."""

    name: str
    what: str
    """For the table, a few words."""
    breaks: Callable[[Scene], object]
    marks: Marks
    mends: Callable[[Scene], object] = nothing
    """Must do no harm where nothing is broken: it also clears up after a run that was killed."""
    hold: float = 0.0
    """Seconds between the two."""
    prepares: Callable[[Scene], object] = nothing
    """Before the client begins."""
    clears: Callable[[Scene], object] = nothing
    """Undoes that, after the client has ended."""
    more: Callable[[Scene, Seen], list[str]] = no_more
    """Marks of its own: a sentence for each that does not hold."""
    patience: float = 90.0
    """Seconds to heal in."""
    kinds: tuple[str, ...] = ("read", "write", "status")
    """What the client sends."""
    victim: Callable[[Scene], str] | None = None
    """The machine whose address is to leave DNS."""
    quick: bool = False
    """Stands in `make test` too."""


class Look(NamedTuple):
    """How the lab was at a moment."""

    at: float
    problem: str
    """Why it is not as it was before; empty where it is."""
    leader: str
    active: str
    unsealed: int
    versions: frozenset[str]
    """Of the backends, as the page's API names them."""


class Asked(NamedTuple):
    """What `make status` said."""

    began: float
    ended: float
    healthy: bool
    lines: list[status.Line]

    @property
    def bad(self) -> str:
        """What was bad, in a line."""
        return "; ".join(
            f"{x.section} {x.name}: {x.state} {x.detail}"[:120] for x in self.lines if x.level == status.BAD
        )


class Scene(Running):
    """A lab that is broken on purpose; what a fault may do to it."""

    since: float = 0.0
    """From when on it may heal: the end of the break, what mends it, or the start of its machines."""

    @property
    def instance(self) -> str:
        """The backend's machine that is broken, where one is."""
        return self.names("backend")[0]

    @property
    def database(self) -> str:
        """The database's machine."""
        return self.names("database")[0]

    def each(self, group: str, command: str, timeout: float = 60) -> None:
        """Run a command on all machines of a group at once; it must succeed."""
        with ThreadPoolExecutor(len(self.names(group))) as pool:
            list(pool.map(lambda name: self.sh(name, command, timeout=timeout), self.names(group)))

    def signal(self, names: Sequence[str], signal: str, unit: str) -> None:
        """Send all processes of a unit a signal, on machines one after the other."""
        for name in names:
            self.sh(name, f"systemctl kill -s {signal} '{unit}'")

    def reboot(self, *names: str) -> None:
        """Reboot machines, all at once."""
        for name in names:
            self.sh(name, "systemctl --no-block reboot")

    def inner(self, name: str) -> list[int]:
        """The processes that are the machine's first, seen from this computer; none where it does not run."""
        if self.lab.kind != "containers":
            raise LabError("Machines are killed and cut off from this computer, so they must be its containers.")
        root = f"{self.lab.machines_directory}/{name}/root"
        for machine in machines():
            if machine.directory == root:
                with contextlib.suppress(OSError):
                    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text(encoding="ascii")
                    return [int(word) for word in children.split()]
        return []

    def kill(self, *names: str) -> None:
        """Kill machines, as a power cut would: no process of theirs has a moment more."""
        pids = [str(pid) for name in names for pid in self.inner(name)]
        subprocess.run(as_root("kill", "-KILL", *pids), check=True)
        for name in names:
            wait_until(lambda n=name: not self.inner(n), 10, f"{name} is dead")  # type: ignore[misc]

    def start(self) -> None:
        """Start the machines that do not run, and wait for their ssh. They may heal from the first one's start on."""
        dead = [machine.name for machine in self.lab.machines if not self.inner(machine.name)]
        if not dead:
            return
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(self.playbook, "site.yml", "--tags", "machines")
            while not run.done() and not any(self.inner(name) for name in dead):
                time.sleep(0.1)
            self.since = time.monotonic()
            run.result().require()

    def nft(self, name: str, rules: str) -> None:
        """Give rules to nft in a machine's network, from outside of it."""
        pid = self.inner(name)[0]
        words = as_root("nsenter", "-t", str(pid), "-n", "nft", "-f", "-")
        subprocess.run(words, input=rules, text=True, check=True, capture_output=True)

    def cut(self, name: str, coming: str = "drop", going: str = "drop") -> None:
        """Cut a machine's network off; ``coming`` and ``going`` are rules for what comes and goes, loopback stays."""
        chain = "chain {0} {{ type filter hook {0} priority -10; {1} lo accept; {2}; }}"
        chains = chain.format("input", "iif", coming) + chain.format("output", "oif", going)
        self.nft(name, f"table inet {TABLE} {{ {chains} }}\n")

    def join(self) -> None:
        """Undo ``cut`` on all machines that run."""
        for machine in self.lab.machines:
            if self.inner(machine.name):
                self.nft(machine.name, f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\n")

    def pids(self, unit: str = "backend") -> dict[str, str]:
        """The main process of a unit on each backend."""
        return {name: self.sh(name, f"systemctl show -P MainPID {unit}").strip() for name in self.names("backend")}


@dataclass
class Seen:
    """All that was seen in one run of a fault."""

    fault: str
    requests: list[Request]
    broken: float
    mended: float | None
    """When it was mended by a command; None where it heals by itself."""
    since: float
    healed: float | None
    """When all was as before; None: never."""
    out: float | None = None
    """Seconds until the victim's address was out of DNS; None: it stayed."""
    names: list[tuple[float, dict[str, list[str]]]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    before: Look | None = None
    lost: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)
    """Marks that did not hold."""

    @property
    def during(self) -> list[Request]:
        """The requests while it was broken, which the times are of."""
        end = self.mended or max(self.healed or self.requests[-1].at, self.broken + LEAST)
        return [request for request in self.requests if self.broken - 0.5 <= request.at <= end]

    @property
    def failed(self) -> list[Request]:
        """The requests that failed."""
        return [request for request in self.requests if not request.good]

    @property
    def healing(self) -> float | None:
        """Seconds until all was as before."""
        return None if self.healed is None else max(0.0, self.healed - self.since)

    def after(self, condition: Callable[[Look], bool]) -> float | None:
        """Seconds from the break until a look of which ``condition`` is true; None: never."""
        return next((look.at - self.broken for look in self.looks if look.at > self.broken and condition(look)), None)

    def mismatches(self) -> list[str]:
        """Where `make status` and what the client saw differ."""
        found = []
        for asked in self.asked:
            near = [x for x in self.failed if x.end >= asked.began - SLACK and x.at <= asked.ended + SLACK]
            inside = [x for x in self.failed if x.at >= asked.began and x.end <= asked.ended]
            when = f"{asked.began - self.broken:.0f} s after the break"
            if asked.healthy and inside:
                found.append(f"status was not red {when}, while {len(inside)} requests failed")
            elif not asked.healthy and not near:
                found.append(f"status was red {when}, while no request failed: {asked.bad[:200]}")
        return found


def quantile(seconds: Sequence[float], share: float) -> float:
    """The value that a share of all does not exceed (the nearest rank); 0 of nothing."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


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
    """Asks a frontend's own DNS server for the names, all the time."""

    def __init__(self, scene: Scene) -> None:
        self.seen: list[tuple[float, dict[str, list[str]]]] = []
        program = (Path(__file__).parent / "names.py").read_text(encoding="utf-8")
        name = scene.names("frontend")[0]
        # By a file of its own, since its standard input says when it ends.
        scene.sh(name, "cat > /run/lab-names.py", stdin=program)
        self.process = subprocess.Popen(
            ["ssh", "-F", str(scene.ssh_config), name, "python3 -S /run/lab-names.py " + " ".join(NAMES)],
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
    """Looks at the lab four times a second: whether all is as it was before."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.session = scene.lab.session()
        self.token = scene.lab.secrets().get("consul_management", "")
        self.pool = ThreadPoolExecutor(16)
        self.looks: list[Look] = []
        self.checks = 0
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self._loop, daemon=True)

    def get(self, machine: Machine, port: int, path: str, **options: Any) -> Any:
        """What a service of a machine says."""
        url = f"https://{machine.address}:{port}/{path}"
        return self.session.get(url, timeout=1, headers={"X-Consul-Token": self.token}, **options).json()

    def backend(self, machine: Machine) -> Any:
        """What a backend says of itself."""
        path = self.scene.lab.directory / "tls" / machine.name / "backend"
        return self.get(machine, 8443, "api/status", cert=(f"{path}.pem", f"{path}.key"))

    def page(self) -> Any:
        """What the page's API says of the backends."""
        url, authority = f"{self.scene.page}/api/instances", str(self.scene.lab.authority)
        return self.session.get(url, timeout=2, verify=authority).json()["instances"]

    def look(self) -> Look:
        """Look once."""
        lab, at, ask = self.scene.lab, time.monotonic(), self.pool.submit
        codes = "standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200"
        vaults = {x.name: ask(self.get, x, VAULT_PORT, f"v1/sys/health?{codes}") for x in lab.group("control")}
        leaders = {x.name: ask(self.get, x, CONSUL_PORT, "v1/status/leader") for x in lab.group("control")}
        checks = [ask(self.get, x, CONSUL_PORT, "v1/health/state/any?stale") for x in lab.group("control")]
        health = [ask(self.get, x, CONSUL_PORT, "v1/operator/autopilot/health") for x in lab.group("control")]
        backends = {x.name: ask(self.backend, x) for x in lab.group("backend")}
        page = ask(self.page)
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
        told_checks: list[list[dict[str, Any]]] = [value("checks", future, []) for future in checks]
        states = max(told_checks, key=len)
        wrong = [f"{x['Node']} {x['Name']}" for x in states if x["Status"] != "passing"]
        instances = value("the page", page, [])
        problems += [f"check failing: {name}" for name in wrong]
        if len(states) < self.checks:
            problems.append(f"{len(states)} checks of {self.checks}")
        if not any(told.get("Healthy") for future in health if (told := value("raft", future, {}))):
            problems.append("Consul's raft is not healthy")
        if not leader:
            problems.append("Consul has no leader")
        if unsealed < len(told_vault) or len(active) != 1:
            problems.append(f"Vault: {unsealed} unsealed, {len(active)} active")
        for name, future in backends.items():
            if value(name, future, {}).get("database", {}).get("status") != "up":
                problems.append(f"{name}: no database")
        if [x["name"] for x in instances if x["state"] == "passing"] != sorted(backends):
            problems.append("the page does not show all backends as active")
        self.checks = max(self.checks, len(states))
        versions = frozenset(str(x["version"]) for x in instances)
        return Look(at, "; ".join(problems)[:400], leader, active[0] if active else "", unsealed, versions)

    def _loop(self) -> None:
        while not self.enough.wait(0.25):
            self.looks.append(self.look())

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.enough.set()
        self.thread.join(10)
        self.pool.shutdown(wait=False)

    def well_since(self) -> float | None:
        """Since when all has been well; None where it is not."""
        since = None
        for look in list(self.looks):
            since = (since or look.at) if not look.problem else None
        return since


@contextlib.contextmanager
def asking_status(scene: Scene, every: float) -> Iterator[list[Asked]]:
    """Ask what `make status` does, again and again, a pause after each."""
    asked: list[Asked] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.wait(every if asked else 1.0):
            began = time.monotonic()
            lines = status.collect(scene.lab, 5)
            asked.append(Asked(began, time.monotonic(), status.healthy(lines), lines))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        enough.set()
        thread.join(30)


def note_of(scene: Scene) -> Path:
    """The file that says which fault is being made, for whoever clears up after a run that was killed."""
    return scene.lab.directory / "failing"


@contextlib.contextmanager
def noted(scene: Scene, fault: Fault) -> Iterator[None]:
    """What breaks is mended, whatever happens; and by the next run if this one is killed."""
    note = note_of(scene)
    note.write_text(fault.name + "\n", encoding="utf-8")
    mended = False
    try:
        yield
        mended = True
    finally:
        if not mended:
            fault.mends(scene)
        fault.clears(scene)
        note.unlink()


def clear_up(scene: Scene, faults: Sequence[Fault]) -> str:
    """Mend what a run has left that was killed; which fault that was."""
    try:
        name = note_of(scene).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    for fault in faults:
        if fault.name == name:
            fault.mends(scene)
            fault.clears(scene)
    note_of(scene).unlink()
    return name


def run(scene: Scene, fault: Fault, say: Callable[[str], None] = lambda _text: None, every: float = 4.0) -> Seen:
    """Break the lab once, and see it heal.

    Args:
        scene: the lab.
        fault: what breaks.
        say: is told what happens, some times a second.
        every: seconds between two questions to `make status`.

    """
    wait_until(lambda: status.healthy(status.collect(scene.lab, 5)), 90, "the lab is healthy before anything is broken")
    name = f"failure-{uuid.uuid4().hex[:12]}"
    victim = scene.lab.machine(fault.victim(scene)).address if fault.victim else ""
    load: Load | None = None
    with noted(scene, fault), Watch(scene) as watch:
        fault.prepares(scene)
        names = Names(scene)
        try:
            settings = Settings(scene.page, str(scene.lab.authority), name, RATE, RATE * LONGEST, fault.kinds)
            load = Load(settings)
            wait_until(lambda: load.requests, 20, "the client has its first answer")
            wait_until(lambda: not watch.look().problem, 30, "all is well before it is broken")
            hold(BEFORE, load, say, "before")
            before = watch.look()
            broken = scene.since = time.monotonic()
            with asking_status(scene, every) as asked:
                fault.breaks(scene)
                scene.since = time.monotonic()
                hold(broken + fault.hold - time.monotonic(), load, say, "broken")
                mended = None
                if fault.mends is not nothing:
                    mended = scene.since = time.monotonic()
                    say("mending")
                    fault.mends(scene)
                healed = wait_healed(scene, fault, watch, load, say)
            asked.append(ask_once(scene))
            hold(max(0.5, broken + LEAST - time.monotonic()), load, say, "after")
        finally:
            seen_names = names.stop()
            requests_seen = load.stop() if load else []
    seen = Seen(
        fault.name, requests_seen, broken, mended, scene.since, healed, None, seen_names, watch.looks, asked, before
    )
    if victim:
        seen.out = out_of_names(seen_names, victim, broken)
    count_writes(scene, name, seen)
    seen.problems = judge(scene, fault, seen)
    return seen


def ask_once(scene: Scene) -> Asked:
    """What `make status` says now."""
    began = time.monotonic()
    lines = status.collect(scene.lab, 5)
    return Asked(began, time.monotonic(), status.healthy(lines), lines)


def hold(seconds: float, load: Load, say: Callable[[str], None], what: str) -> None:
    """Let time pass, and tell."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        say(f"{what}, {len(load.requests)} requests, {load.failures()} failed")
        time.sleep(min(0.5, left))


def wait_healed(scene: Scene, fault: Fault, watch: Watch, load: Load, say: Callable[[str], None]) -> float | None:
    """Wait until all has been well for a while; since when it has been, or None where that takes too long."""
    end = max(scene.since, time.monotonic()) + fault.patience
    while time.monotonic() < end:
        hold(0.25, load, say, f"healing for {time.monotonic() - scene.since:.0f} s")
        since = watch.well_since()
        failed = max((request.end for request in list(load.requests) if not request.good), default=0.0)
        if since and time.monotonic() - max(since, failed, scene.since) >= AFTER:
            return max(since, failed, scene.since)
    return None


def out_of_names(seen: Sequence[tuple[float, dict[str, list[str]]]], address: str, broken: float) -> float | None:
    """Seconds from the break until the backends' name no longer led to an address; None where it always did."""
    return next((at - broken for at, found in seen if at > broken and address not in found[NAMES[0]]), None)


def count_writes(scene: Scene, name: str, seen: Seen) -> None:
    """Look every write up in PostgreSQL, and then remove the notes."""
    where = f"FROM notes WHERE text LIKE '{name} %'"
    counts = Counter(int(word) for word in scene.sql(f"SELECT split_part(text, ' ', 2) {where}").split())
    writes = [request for request in seen.requests if request.kind == "write"]
    seen.lost = sum(request.good and not counts[request.number] for request in writes)
    seen.doubled = sum(count > 1 for count in counts.values())
    scene.sql(f"DELETE {where}")


def judge(scene: Scene, fault: Fault, seen: Seen) -> list[str]:
    """A sentence for each mark that did not hold."""
    marks, problems = fault.marks, []
    failed = seen.failed
    if marks.answer is not None:
        slow = [x for x in failed if x.code != 503 or not x.json or x.seconds > marks.answer + ROOM]
        early = [x for x in failed if x not in slow and x.end < seen.broken + marks.absence]
        if slow:
            what = f"had no 503 in JSON within {marks.answer:g} s, as {describe(slow[0], seen)}"
            problems.append(f"{len(slow)} requests {what}")
        if early:
            problems.append(f"{len(early)} requests failed before {marks.absence:g} s, as {describe(early[0], seen)}")
    elif marks.failed is not None and len(failed) > marks.failed:
        problems.append(f"{len(failed)} requests failed, the first {describe(failed[0], seen)}")
    if seen.lost or seen.doubled:
        problems.append(f"{seen.lost} acknowledged writes were lost, {seen.doubled} were there twice")
    p99 = quantile([request.seconds for request in seen.during], 0.99)
    if marks.p99 is not None and p99 > marks.p99:
        problems.append(f"p99 was {p99 * 1000:.0f} ms, not {marks.p99 * 1000:.0f}")
    if marks.out is not None:
        problems += judge_names(marks.out, seen)
    if marks.stays and any(at > seen.broken and gone(found, seen) for at, found in seen.names):
        problems.append("a name lost an address of something that lives")
    if seen.healed is None:
        last = seen.looks[-1].problem if seen.looks else ""
        problems.append(f"it did not heal in {fault.patience:g} s: {last or 'requests failed'}")
    elif marks.healed is not None and (seen.healing or 0) > marks.healed:
        problems.append(f"it healed after {seen.healing:.1f} s, not {marks.healed:g}")
    return problems + fault.more(scene, seen)


def judge_names(mark: float, seen: Seen) -> list[str]:
    """Whether the victim left DNS in time, or served again before it had to."""
    if seen.out is not None:
        return [f"its address was in DNS for {seen.out:.1f} s, not {mark:g}"] if seen.out > mark else []
    if seen.healing is not None and seen.mended is None and seen.healing <= mark:
        return []
    return ["its address never left DNS"]


def gone(found: dict[str, list[str]], seen: Seen) -> bool:
    """Whether a name has fewer addresses than at first."""
    return any(len(found[name]) < len(seen.names[0][1][name]) for name in NAMES)


def describe(request: Request, seen: Seen) -> str:
    """A request in a few words."""
    when = request.at - seen.broken
    answer = f"{request.code or 'no answer'} after {request.seconds:.1f} s ({request.problem[:120]})"
    return f"a {request.kind} at {when:+.1f} s: {answer}"


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values) if values else 0.0
