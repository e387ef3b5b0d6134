"""`make failures`: break a lab of its own on purpose while a client uses it, and count what the client saw.

    make failures                             every fault three times; ends green if every mark holds that can
    make failures FAULT=backend-killed RUNS=1 one fault once
    make failures KEEP=1                      leave the lab up, for the next time
    make failures INVENTORY=terraform BREAK=test PACE=5
                                              a lab of virtual machines that is up; five times as long for each mark

The table is printed, and its lines are put into docs/failures.md; a picture of each fault's last run is in
.lab/logs/failures/.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from plugins.module_utils.lab_owner import RefusedError, hold, make_private, own_lab
from tools import running
from tools.bench import machine_size
from tools.failures import report
from tools.failures.faults import FAULTS, rescue
from tools.failures.machines import machines_of
from tools.failures.measure import clear_up, quantile, run
from tools.failures.scene import Fault, Scene, Seen
from tools.lab import ROOT, LabError, load
from tools.running import keep_connections, ssh_config

PAGE = ROOT / "docs" / "failures.md"
PICTURES = ROOT / ".lab" / "logs" / "failures"
SHOWN = ("backend-killed", ROOT / "docs" / "images" / "failures.svg")
"""The fault whose picture is in the documentation, and where."""
INVENTORY = ROOT / "inventories" / "containers"
TABLES = {"containers": "table", "vagrant": "table of virtual machines", "terraform": "table of virtual machines"}
"""Where the page has the table for each kind of machine."""


class Progress:
    """What happens now, in one line that is written over where a person looks."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.words = ""
        self.live = sys.stderr.isatty()

    def next(self, words: str) -> None:
        """Something new begins."""
        self.begin, self.words = time.monotonic(), words

    def say(self, text: str) -> None:
        """Say how it is."""
        if self.live:
            print(
                f"\r\033[K{self.words}, {time.monotonic() - self.begin:.0f} s: {text}",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def end(self, text: str) -> None:
        """Say how it ended."""
        clear = "\r\033[K" if self.live else ""
        print(f"{clear}{self.words}, {time.monotonic() - self.begin:.0f} s: {text}", file=sys.stderr, flush=True)


def result(seen: Seen) -> str:
    """How a run ended, in a line and one more for each mark that did not hold."""
    healed = "never" if seen.healing is None else f"{seen.healing:.1f} s"
    p99 = report.milliseconds(quantile([request.seconds for request in seen.during], 0.99))
    out = "" if seen.out is None else f", out of DNS after {seen.out:.1f} s"
    text = f"{len(seen.requests)} requests, {len(seen.failed)} failed, p99 {p99}{out}, healed after {healed}"
    lines = [f"    {problem}" for problem in [*seen.problems, *seen.mismatches()]]
    return "\n".join([text + (": held" if not lines else ""), *lines])


def measure(scene: Scene, faults: Sequence[Fault], runs: int, progress: Progress) -> dict[str, list[Seen]]:
    """Make each fault so often; what was seen."""
    found: dict[str, list[Seen]] = {}
    for fault in faults:
        for number in range(1, runs + 1):
            progress.next(f"{fault.name}, run {number} of {runs}")
            try:
                seen = run(scene, fault, progress.say)
            except Exception as error:  # of ssh, nft, the clients of four services: one fault is not the others' end
                seen = Seen.of_none(fault.name, f"it could not be made: {reason(error)}")
            found.setdefault(fault.name, []).append(seen)
            progress.end(result(seen))
            if seen.requests:
                report.write_picture(PICTURES / f"{fault.name}.svg", fault, seen)
            if seen.healed is None:
                progress.next("putting the lab right")
                rescue(scene)
                progress.end("done")
        print(report.row(fault, found[fault.name]), flush=True)
        write(found, fault, TABLES[scene.lab.kind])
    return found


def write(found: dict[str, list[Seen]], fault: Fault, table: str) -> None:
    """Put a fault's line into a table of the page, as soon as there is one."""
    size = f"{datetime.datetime.now(datetime.UTC).date()}: {machine_size()}."
    measured = {fault.name: (report.row(fault, found[fault.name]), report.causes(fault, found[fault.name]))}
    shown = ""
    if table == TABLES["containers"]:
        if fault.name == SHOWN[0] and found[fault.name][-1].requests:
            report.write_picture(SHOWN[1], fault, found[fault.name][-1])
        what = next(fault.what for fault in FAULTS if fault.name == SHOWN[0])
        shown = f"![One run's requests over time: {what}](images/{SHOWN[1].name})"
    text = PAGE.read_text(encoding="utf-8")
    order = [fault.name for fault in FAULTS]
    PAGE.write_text(report.merge(text, order, measured, size, shown, table), encoding="utf-8")


def reason(error: Exception) -> str:
    """What went wrong, in a line."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    return " ".join(f"{type(error).__name__}: {error} {said or ''}".split())[:500]


def verdict(faults: Sequence[Fault], found: dict[str, list[Seen]]) -> bool:
    """Say how many marks held and how often `make status` was right; whether all is as it should be."""
    runs = [seen for each in found.values() for seen in each]
    surprises = sum(bool(fault.surprises(seen)) for fault in faults for seen in found[fault.name])
    asked = sum(len(seen.asked) for seen in runs)
    wrong = sum(len(seen.mismatches()) for seen in runs)
    held = sum(not seen.problems for seen in runs)
    print(f"\nmake status was asked {asked} times, and right {asked - wrong} times.")
    print(f"{held} of {len(runs)} runs held every mark.")
    if known := len(runs) - held - surprises:
        print(f"{known} missed only a mark that is known not to hold: docs/failures.md says why.")
    return not surprises and not wrong


def chosen(scene: Scene, names: Sequence[str]) -> list[Fault]:
    """The faults of these names, of none all, that the lab has machines for; each mark at its machines' pace."""
    machines_of(scene)
    if len(scene.names("backend")) < 2:
        raise LabError("A lab that is broken needs two backends, so that one can serve while the other doesn't.")
    able = [
        fault
        for fault in FAULTS
        if fault.servers <= len(scene.names("control")) and fault.databases <= len(scene.names("database"))
    ]
    return [at_pace(fault, running.pace) for fault in able if not names or fault.name in names]


def at_pace(fault: Fault, pace: float) -> Fault:
    """The fault for machines that take so many times as long: later marks, and broken until after them."""
    marks = fault.marks.slower(pace)
    return dataclasses.replace(fault, marks=marks, hold=max(fault.hold, 1.5 * (marks.out or 0)) if fault.hold else 0.0)


def stop(_number: int, _frame: object) -> None:
    """End as Ctrl-C does, so that what is broken is mended."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring a lab up, break it, count, and remove it; or break one that is up, and leave it."""
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(
        prog="make failures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fault", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--runs", type=int, default=3, help="how often each (default 3)")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument("--inventory", type=Path, default=INVENTORY, help="of a lab that is up, and stays")
    parser.add_argument("--break", dest="lab", metavar="LAB", help="that lab's name")
    parser.add_argument("--pace", type=float, default=1, help="what each mark is multiplied by, for slow machines")
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.pace < 1:
        parser.error("RUNS and PACE must be at least 1")
    own = options.inventory.resolve() == INVENTORY
    if not own and not options.lab:
        parser.error("This breaks a lab that is up: say which, as make failures INVENTORY=terraform BREAK=NAME")
    # Never the one that .lab/env may have set: it is broken.
    os.environ["LAB_NAME"] = own_lab(str(ROOT), "fail") if own else options.lab
    running.pace = options.pace
    signal.signal(signal.SIGTERM, stop)
    progress = Progress()
    with tempfile.TemporaryDirectory() as folder:
        scene: Scene | None = None
        try:
            lab = load([str(options.inventory)])
            if own:
                make_private(str(lab.directory))
            if lab.directory.exists():  # What one run breaks, another would mend.
                hold(lab.name, str(lab.directory))
            config = ssh_config(lab, Path(folder))
            # A login to each machine a second after the break is what clients would wait for then (p99 501 ms on two
            # processors), and most of what emulated machines do.
            lab = keep_connections(lab, Path(folder))
            scene = Scene(lab, [str(options.inventory)], [], config)
            faults = chosen(scene, options.fault)
            progress.next(f"the lab {lab.name} comes up")
            if name := clear_up(scene, FAULTS, rescue):
                progress.end(f"what a run left that was killed in {name} is mended")
            elif own:
                scene.playbook("site.yml").require()
                progress.end("it is up")
            found = measure(scene, faults, options.runs, progress)
        except (LabError, RefusedError, AssertionError) as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("\nInterrupted; what was broken has been mended.", file=sys.stderr)
            return 130
        finally:
            if scene and own and not options.keep:
                scene.playbook("playbooks/down.yml").require()
        return 0 if verdict(faults, found) else 1


if __name__ == "__main__":
    sys.exit(main())
