"""Runs the roles' Molecule scenarios side by side, names each with its time, and ends with ``N passed, N failed``.

Scenarios share nothing: each has its own machines, network and state, named after it. What a scenario printed is kept
in ``.lab/logs/``; of a failed one the end is shown, with the last lines of its machines' journals.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MOLECULE = ROOT / ".venv" / "bin" / "molecule"
LOGS = ROOT / ".lab" / "logs"
RELEASES = ("bookworm", "trixie")
# Lines of a failed scenario's output that are shown.
SHOWN = 120


class Result(NamedTuple):
    """A scenario that has ended."""

    name: str
    release: str
    seconds: float
    passed: bool
    log: Path


def scenarios() -> list[str]:
    """The names of all scenarios."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


def run(name: str, release: str) -> Result:
    """Run one scenario from nothing to nothing."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"molecule-{name}-{release}.log"
    environment = {**os.environ, "MOLECULE_DISTRO": release, "MOLECULE_COMMAND_BORDERS": "0", "NO_COLOR": "1"}
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            [MOLECULE, "test", "-s", name],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return Result(name, release, time.monotonic() - started, done.returncode == 0, log)


def summary(log: str) -> str:
    """What pytest counted, such as ``13 passed``.

    >>> summary("====== 13 passed in 14.57s ======")
    '13 passed'
    """
    found = re.findall(r"=+ ((?:\d+ \w+,? ?)+) in [\d.]+s", log)
    return found[-1].strip() if found else ""


def report(result: Result) -> None:
    """Say how a scenario ended, and of a failed one what it said last."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.log.read_text(encoding="utf-8", errors="replace"))
    verdict = "passed" if result.passed else "FAILED"
    print(f"{result.name:<12} {result.release:<9} {result.seconds:6.1f} s  {verdict}  {summary(text)}", flush=True)
    if not result.passed:
        print("\n".join(text.splitlines()[-SHOWN:]))
        print(f"All of it: {result.log.relative_to(ROOT)}", flush=True)


def main() -> int:
    """Run the scenarios named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="scenarios", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="all unless named")
    parser.add_argument("--release", action="append", choices=RELEASES, help="Debian release, may be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    options = parser.parse_args()
    unknown = sorted(set(options.scenario) - set(scenarios()))
    if unknown:
        parser.error(f"there is no scenario {', '.join(unknown)}: there are {', '.join(scenarios())}")
    results = []
    started = time.monotonic()
    # One release after the other: a scenario's machines have the same names on both.
    for release in options.release or RELEASES[:1]:
        with ThreadPoolExecutor(options.jobs) as pool:
            for future in as_completed([pool.submit(run, name, release) for name in options.scenario or scenarios()]):
                results.append(future.result())
                report(results[-1])
    failed = sum(not result.passed for result in results)
    print(f"\n{len(results) - failed} passed, {failed} failed in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
