"""What a fault is, what it may do to a lab, and what is seen of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tools import status
from tools.failures.client import Request
from tools.failures.machines import Machines, machines_of
from tools.running import Running, primary, wait_until

LEAST = 5.0
"""Seconds of requests that are measured at least, from the moment at which something broke."""
SLACK = 1.0
"""Seconds by which a status may be late: what ended so long before it was asked, or began after, may be told or not."""
BACKEND_NAME = "backend.service.consul"
NAMES = (BACKEND_NAME, "postgresql.service.consul")
"""The names that are asked for all the time."""
UNSEEN = "the page does not show all backends as active"
"""What a look says where the page lacks a backend."""
UNHEARD = "Consul's servers had lost the word of"
"""How it is said that they called a check failing which its own agent called passing."""


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
    stays: tuple[str, ...] = ()
    """Names that may lose no address."""
    healed: float | None = None
    """From the end of the break, or what mends it, until all is as before."""
    serves: float | None = None
    """The same until no request fails any more."""

    def slower(self, pace: float) -> Marks:
        """The same for machines that take so many times as long."""
        times = ("answer", "p99", "out", "healed", "serves")  # How long it must wait for its database stays.
        return replace(self, **{name: value * pace for name in times if (value := getattr(self, name)) is not None})


def failing(check: str) -> str:
    """How a look says that a check, named by its machine and itself, fails."""
    return f"check failing: {check}"


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
    servers: int = 1
    """How many control machines it wants."""
    databases: int = 1
    """How many machines of the database it wants."""
    missed: str = ""
    """A regular expression of how the sentence begins on the one mark that is known not to hold (docs/failures.md)."""

    def surprises(self, seen: Seen) -> list[str]:
        """The marks that did not hold, but for the one that is known not to, and for what no fault is to blame for."""
        known = f"it (healed after|did not heal in) .*: {UNHEARD} " + (f"|{self.missed}" if self.missed else "")
        return [problem for problem in seen.problems if not re.match(known, problem)]


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
    shown: str
    """The problem that the page tells of; empty where it tells of none."""


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
    broken: float = 0.0
    """From when on the victim is to leave DNS: the break's begin, unless the break says that it took until later."""

    @property
    def instance(self) -> str:
        """The backend's machine that is broken, where one is."""
        return self.names("backend")[0]

    @property
    def database(self) -> str:
        """The machine of the database's primary."""
        return primary(self) or self.names("database")[0]

    def signal(self, names: Sequence[str], signal: str, unit: str) -> None:
        """Send all processes of a unit a signal, on machines one after the other."""
        for name in names:
            self.sh(name, f"systemctl kill -s {signal} '{unit}'")

    @property
    def machines(self) -> Machines:
        """The machines, from outside of them."""
        return machines_of(self)

    def reboot(self, *names: str) -> None:
        """Reboot machines, all at once, and wait until they start."""
        before = {name: self.machines.boot(name) for name in names}
        with ThreadPoolExecutor(len(names)) as pool:
            # Its exit code says nothing: the connection may end before the answer.
            list(pool.map(lambda name: self.attempt(name, "systemctl --no-block reboot"), names))

        def started() -> bool:
            return all(self.machines.boot(name) not in ("", before[name]) for name in names)

        wait_until(started, 60, f"{', '.join(names)} start again")

    def kill(self, *names: str) -> None:
        """Kill machines, as a power cut would."""
        self.machines.kill(names)
        wait_until(lambda: not set(names) & self.machines.up(), 10, f"{', '.join(names)} are dead")

    def start(self) -> None:
        """Start the machines that do not run, and wait for their ssh. They may heal from the first one's start on."""
        dead = {machine.name for machine in self.lab.machines} - self.machines.up()
        if dead:
            self.since = self.machines.start(dead)

    def cut(self, name: str, coming: str = "drop", going: str = "drop") -> None:
        """Cut a machine's network off; ``coming`` and ``going`` are rules for what comes and goes, loopback stays."""
        self.machines.cut(name, coming, going)

    def join(self) -> None:
        """Undo ``cut`` on all machines that run."""
        self.machines.join()


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
    late: float = 0.0
    """Seconds from the break until the victim failed, which ``out`` counts from."""
    unheard: list[str] = field(default_factory=list)
    """Checks that were failing for Consul's servers and passing for their own agents when it should have healed."""

    @classmethod
    def of_none(cls, fault: str, problem: str) -> Seen:
        """Nothing, and why."""
        return cls(fault, [], 0.0, None, 0.0, None, problems=[problem])

    @property
    def during(self) -> list[Request]:
        """The requests while it was broken, which the times are of."""
        last = max((request.at for request in self.requests), default=0.0)
        end = self.mended or max(self.healed or last, self.broken + LEAST)
        return [request for request in self.requests if self.broken - 0.5 <= request.at <= end]

    @property
    def failed(self) -> list[Request]:
        """The requests that failed."""
        return [request for request in self.requests if not request.good]

    @property
    def healing(self) -> float | None:
        """Seconds until all was as before."""
        return None if self.healed is None else max(0.0, self.healed - self.since)

    @property
    def serving(self) -> float:
        """Seconds until the last failure was answered, counted as ``healing`` is."""
        return max(0.0, max((request.end for request in self.failed), default=0.0) - self.since)

    def lost_words(self, deadline: float) -> str:
        """Which reports were lost, if nothing else was wrong after so many seconds, counted as ``healing`` is."""
        known = {failing(check) for check in self.unheard} | {UNSEEN}
        due = self.since + deadline
        others = [x for x in self.looks if x.problem and x.at >= due and not known.issuperset(x.problem.split("; "))]
        return "" if others or any(request.end >= due for request in self.failed) else ", ".join(self.unheard)

    def after(self, condition: Callable[[Look], bool]) -> float | None:
        """Seconds from the break until a look of which ``condition`` is true; None: never."""
        return next((look.at - self.broken for look in self.looks if look.at > self.broken and condition(look)), None)

    def mismatches(self) -> list[str]:
        """Where `make status` and what the client saw differ."""
        found = []
        for asked in self.asked:
            near = [x for x in self.failed if x.end >= asked.began - SLACK and x.at <= asked.ended + SLACK]
            inside = [x for x in self.failed if x.at >= asked.began and x.end <= asked.ended]
            going_on = any(asked.ended <= x.at <= asked.ended + SLACK for x in self.failed)
            when = f"{asked.began - self.broken:.0f} s after the break"
            before = any(x.end <= asked.began for x in self.failed)
            # What healed while it was asked, or failed for the first time, may be told or not.
            if asked.healthy and before and inside and going_on:
                found.append(f"status was not red {when}, while {len(inside)} requests failed")
            elif not asked.healthy and not near:
                found.append(f"status was red {when}, while no request failed: {asked.bad[:200]}")
        return found
