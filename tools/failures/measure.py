"""Breaks a lab while a client uses it, and judges what was seen."""

from __future__ import annotations

import contextlib
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools import running, status
from tools.failures.client import Request, Settings
from tools.failures.scene import BACKEND_NAME, LEAST, NAMES, UNHEARD, Fault, Scene, Seen, nothing
from tools.failures.watch import Load, Names, Watch, ask_once, asking_status
from tools.lab import PATRONI_PORT
from tools.running import wait_until

RATE = 40
"""Requests a second; fewer of slow machines."""
LONGEST = 900
"""Seconds after which the client ends, whatever happens."""
BEFORE = 2.0
"""Seconds in which the client sees the lab as it was."""
AFTER = 2.0
"""Seconds for which all must have been well before it counts as healed."""
MOMENT = 1.0
"""Seconds for which a name may lack one address of several, to be called a moment."""
ROOM = 0.3
"""Seconds that the way to and fro may take besides a deadline."""


def quantile(seconds: Sequence[float], share: float) -> float:
    """The value that a share of all does not exceed (the nearest rank); 0 of nothing."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


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


def clear_up(scene: Scene, faults: Sequence[Fault], rescue: Callable[[Scene], object]) -> str:
    """Mend what a run has left that was killed, and then whatever else is wrong; which fault that was."""
    try:
        name = note_of(scene).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    for fault in faults:
        if fault.name == name:
            for command in (fault.mends, fault.clears):
                with contextlib.suppress(Exception):  # of what is broken no more, or more than that
                    command(scene)
    rescue(scene)
    note_of(scene).unlink()
    return name


def may_take_over(scene: Scene) -> bool:
    """Whether the database's machines go by Consul's word on who the primary is.

    For 20 s after Consul was without a leader a replica still goes by the primary's own (Patroni's `failsafe_mode`),
    and takes over from it in no case.
    """
    urls = [f"https://{machine.address}:{PATRONI_PORT}/patroni" for machine in scene.lab.group("database")]
    return not any(scene.lab.get(url, timeout=2).json().get("failsafe_mode_is_active") for url in urls)


def run(scene: Scene, fault: Fault, say: Callable[[str], None] = lambda _text: None, every: float = 4.0) -> Seen:
    """Break the lab once, and see it heal.

    Args:
        scene: the lab.
        fault: what breaks.
        say: is told what happens, some times a second.
        every: seconds between two questions to `make status`; slow machines are asked less often.

    """
    healthy = "the lab is healthy before anything is broken"
    wait_until(lambda: status.healthy(status.collect(scene.lab)), 90, healthy, running.pace)
    wait_until(lambda: may_take_over(scene), 30, "another machine of the database may take over")
    name = f"failure-{uuid.uuid4().hex[:12]}"
    victim = scene.lab.machine(fault.victim(scene)).address if fault.victim else ""
    load: Load | None = None
    with noted(scene, fault), Watch(scene) as watch:
        fault.prepares(scene)
        # Preparing may restart what the client asks, and its failures would count as the fault's.
        wait_until(lambda: not watch.look().problem, 30, "all is well before it is broken")
        names = Names(scene, scene.names("frontend")[0], NAMES)
        try:
            # A fifth of the requests drowned emulated machines with PACE=5 (answers took 14 to 44 s).
            rate = RATE / running.pace**2
            settings = Settings(scene.page, str(scene.lab.authority), name, rate, int(rate * LONGEST), fault.kinds)
            load = Load(settings)
            wait_until(lambda: load.requests, 20, "the client has its first answer")
            hold(BEFORE, load, say, "before")
            before = watch.look()
            broken = scene.since = scene.broken = time.monotonic()
            with asking_status(scene, every * running.pace) as asked:
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
    seen.unheard = watch.unheard
    seen.healed = not_before_failures(healed, requests_seen)
    if victim and (out := out_of_names(seen_names, victim, broken)) is not None:
        seen.late = scene.broken - broken
        seen.out = max(0.0, out - seen.late)
    count_writes(scene, name, seen)
    seen.problems = judge(scene, fault, seen)
    return seen


def hold(seconds: float, load: Load, say: Callable[[str], None], what: str) -> None:
    """Let time pass, and tell."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        say(f"{what}, {len(load.requests)} requests, {load.failures()} failed")
        time.sleep(min(0.5, left))


def due(fault: Fault) -> float:
    """Seconds in which a fault is to heal: its mark, or half of all patience."""
    return fault.marks.healed or fault.patience * running.pace / 2


def wait_healed(scene: Scene, fault: Fault, watch: Watch, load: Load, say: Callable[[str], None]) -> float | None:
    """Wait until all has been well for a while; since when it has been, or None where that takes too long."""
    end = max(scene.since, time.monotonic()) + fault.patience * running.pace
    asked = False
    while time.monotonic() < end:
        if not asked and time.monotonic() > scene.since + due(fault):
            watch.ask_agents()
            asked = True
        hold(0.25, load, say, f"healing for {time.monotonic() - scene.since:.0f} s")
        failed = max((request.end for request in list(load.requests) if not request.good), default=0.0)
        # A look takes seconds where something hangs, and one that began before the break says nothing.
        if well := watch.well():
            since = max(well[0], failed, scene.since)
            if well[1] - since >= AFTER:
                return since
    return None


def not_before_failures(healed: float | None, requests: Sequence[Request]) -> float | None:
    """When it healed, which is not before the last failure, also where that answer came late."""
    return healed and max(healed, *(request.end for request in requests if not request.good), healed)


def out_of_names(seen: Sequence[tuple[float, dict[str, list[str]]]], address: str, broken: float) -> float | None:
    """Seconds from the break until the backends' name no longer led to an address; None where it always did."""
    return next((at - broken for at, found in seen if at > broken and address not in found[BACKEND_NAME]), None)


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
    for name in marks.stays:
        problems += judge_whole(name, seen)
    last = next((look.problem for look in reversed(seen.looks) if look.problem), "requests failed")
    why = f"{UNHEARD} {words}" if (words := seen.lost_words(due(fault))) else last
    if seen.healed is None:
        problems.append(f"it did not heal in {fault.patience * running.pace:g} s: {why}")
    elif marks.healed is not None and (seen.healing or 0) > marks.healed:
        problems.append(f"it healed after {seen.healing:.1f} s, not {marks.healed:g}: {why}")
    if marks.serves is not None and seen.serving > marks.serves:
        problems.append(f"requests failed until {seen.serving:.1f} s after its return, not {marks.serves:g}")
    return problems + fault.more(scene, seen)


def judge_whole(name: str, seen: Seen) -> list[str]:
    """Whether a name kept all its addresses; if not, for how long it did not."""
    whole = least = len(seen.names[0][1][name])
    longest, since = 0.0, None
    for at, found in seen.names:
        if at <= seen.broken:
            continue
        if since is not None:
            longest = max(longest, at - since)
        if len(found[name]) >= whole:
            since = None
        elif since is None:
            since = at
        least = min(least, len(found[name]))
    if least == whole:
        return []
    long = "a moment" if least and longest <= MOMENT else f"{longest:.1f} s"
    return [f"{name} lost an address of something that lives for {long}"]


def judge_names(mark: float, seen: Seen) -> list[str]:
    """Whether the victim left DNS in time, or served again before it had to."""
    if seen.out is not None:
        return [f"its address was in DNS for {seen.out:.1f} s, not {mark:g}"] if seen.out > mark else []
    if seen.healing is not None and seen.mended is None and seen.healing <= mark:
        return []
    return ["its address never left DNS"]


def describe(request: Request, seen: Seen) -> str:
    """A request in a few words."""
    when = request.at - seen.broken
    answer = f"{request.code or 'no answer'} after {request.seconds:.1f} s ({request.problem[:120]})"
    return f"a {request.kind} at {when:+.1f} s: {answer}"


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values) if values else 0.0
