"""Runs the parts of the project's tests, shows how long each took, and ends with ``N passed, N failed``.

Parts run in the order named; of those in `BESIDE` neighbours run beside one another, one a processor, so each line
begins with its part. Each runs to its end whatever became of the others, so that one run tells all that is wrong; what
failed is said once more at the end, by name.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from plugins.module_utils.lab_owner import own_lab

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ".venv/bin/python"
TEST_LAB = {"LAB_NAME": own_lab(str(ROOT), "test")}
# A line that says what failed: pytest's last lines and its assertion, Ansible's, Molecule's, that of a scenario.
SAYS_WHAT_FAILED = re.compile(r"FAILED |ERROR |E  +\w|fatal: |\[ERROR\]: |CRITICAL |.* s  FAILED")
SHOWN = 12


class Step(NamedTuple):
    """A command of a part.

    ``always`` runs it also when an earlier one of its part has failed.
    """

    name: str
    command: list[str]
    environment: dict[str, str] = {}
    always: bool = False


def pytest(name: str, *arguments: str, environment: dict[str, str] | None = None) -> Step:
    """A step that runs pytest."""
    return Step(name, [PYTHON, "-m", "pytest", "-q", "--durations=10", *arguments], environment or {})


def playbook(name: str, *arguments: str, always: bool = False) -> Step:
    """A step that runs a playbook on the test lab."""
    return Step(name, [".venv/bin/ansible-playbook", *arguments], TEST_LAB, always)


PARTS: dict[str, list[Step]] = {
    "lint": [
        Step("ruff", [".venv/bin/ruff", "check", "."], always=True),
        Step("ruff format", [".venv/bin/ruff", "format", "--check", "."], always=True),
        Step("mypy", [".venv/bin/mypy", "plugins", "tools", "tests"], always=True),
        Step("yamllint", [".venv/bin/yamllint", "--strict", "."], always=True),
        Step("ansible-lint", [".venv/bin/ansible-lint"], always=True),
    ],
    "unit": [pytest("the lab's tools and modules", "tests/unit")],
    "application": [pytest("the backend", "--config-file=app/backend/pyproject.toml", "app/backend/tests")],
    "molecule": [Step("the roles alone, Debian 12", [PYTHON, "-m", "tools.scenarios", "--release", "bookworm"])],
    "molecule-trixie": [Step("the roles alone, Debian 13", [PYTHON, "-m", "tools.scenarios", "--release", "trixie"])],
    "acceptance": [
        playbook("remove an old test lab", "playbooks/down.yml"),
        # The tests bring the lab up themselves, since they watch it meanwhile.
        pytest("the whole lab", "tests/acceptance", "tests/browser", "tests/failure", environment=TEST_LAB),
        playbook("remove the test lab", "playbooks/down.yml", always=True),
    ],
    "variants": [
        pytest("every option set otherwise", "tests/options", environment=TEST_LAB)._replace(always=True),
        pytest("a service more", "tests/service")._replace(always=True),
        pytest("the roles elsewhere", "tests/collection")._replace(always=True),
        pytest("machines that exist already", "tests/machines")._replace(always=True),
    ],
}
# Which parts run beside one another; what is not here runs alone. The first two say how long something may take, so
# nothing heavier runs beside them.
BESIDE = (("unit", "application"), ("lint", "molecule", "variants"))
interrupted = threading.Event()


class Result(NamedTuple):
    """A step that has ended, and the lines that say what failed in it."""

    name: str
    seconds: float
    passed: bool
    failures: list[str]


def run(part: str, step: Step) -> Result:
    """Run a step, showing what it prints."""
    print(f"{part}: === {step.name}", flush=True)
    started = time.monotonic()
    failures = []
    with subprocess.Popen(
        step.command,
        cwd=ROOT,
        env={**os.environ, **step.environment},
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or []:
            print(f"{part}: {line}", end="", flush=True)
            if SAYS_WHAT_FAILED.match(line):
                failures.append(line.rstrip()[:300])
    return Result(f"{part}: {step.name}", time.monotonic() - started, process.returncode == 0, failures[-SHOWN:])


def run_part(part: str) -> list[Result]:
    """Run a part's steps; after one that failed only those that always run."""
    results: list[Result] = []
    for step in PARTS[part]:
        if not interrupted.is_set() and (step.always or all(result.passed for result in results)):
            results.append(run(part, step))
    return results


def run_beside(parts: list[str]) -> list[Result]:
    """Run parts at once, one a processor; Ctrl-C ends their commands, and lets them begin no other."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [pool.submit(run_part, part) for part in parts]
        try:
            return [result for part in running for result in part.result()]
        except KeyboardInterrupt:
            interrupted.set()
            raise


def main() -> int:
    """Run the parts named on the command line."""
    parser = argparse.ArgumentParser(prog="parts", description=__doc__)
    parser.add_argument("part", nargs="+", choices=PARTS)
    started = time.monotonic()
    results: list[Result] = []
    for _, at_once in groupby(parser.parse_args().part, lambda part: next((x for x in BESIDE if part in x), part)):
        results += run_beside(list(at_once))
    failed = [result for result in results if not result.passed]
    width = max(len(result.name) for result in results)
    print()
    for result in results:
        print(f"{result.name:<{width}} {result.seconds:7.1f} s  {'passed' if result.passed else 'FAILED'}")
    print(f"{'in all':<{width}} {time.monotonic() - started:7.1f} s\n")
    for result in failed:
        print(f"{result.name} says:", *result.failures, sep="\n  ")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
