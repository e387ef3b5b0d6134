"""Runs the parts of the project's tests, shows how long each took, and ends with ``N passed, N failed``.

Each part runs to its end whatever became of the others, so that one run tells all that is wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ".venv/bin/python"
TEST_LAB = {"LAB_NAME": "test"}


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
    "unit": [
        pytest("the lab's tools and modules", "tests/unit"),
        pytest("the backend", "--config-file=app/backend/pyproject.toml", "app/backend/tests"),
    ],
    "molecule": [Step("the roles alone, Debian 12", [PYTHON, "-m", "tools.scenarios", "--release", "bookworm"])],
    "molecule-trixie": [Step("the roles alone, Debian 13", [PYTHON, "-m", "tools.scenarios", "--release", "trixie"])],
    "acceptance": [
        playbook("remove an old test lab", "playbooks/down.yml"),
        # The tests bring the lab up themselves, since they watch it meanwhile.
        pytest("the whole lab", "tests/acceptance", "tests/browser", "tests/failure", environment=TEST_LAB),
        playbook("remove the test lab", "playbooks/down.yml", always=True),
    ],
}


def run(part: str) -> list[tuple[str, float, bool]]:
    """Run a part's steps; each one's name, seconds, and whether it passed."""
    results: list[tuple[str, float, bool]] = []
    for step in PARTS[part]:
        if not step.always and not all(passed for _name, _seconds, passed in results):
            continue
        print(f"\n=== {part}: {step.name}", flush=True)
        started = time.monotonic()
        code = subprocess.run(step.command, cwd=ROOT, env={**os.environ, **step.environment}, check=False).returncode
        results.append((f"{part}: {step.name}", time.monotonic() - started, code == 0))
    return results


def main() -> int:
    """Run the parts named on the command line."""
    parser = argparse.ArgumentParser(prog="parts", description=__doc__)
    parser.add_argument("part", nargs="+", choices=PARTS)
    results = [result for part in parser.parse_args().part for result in run(part)]
    width = max(len(name) for name, _seconds, _passed in results)
    print()
    for name, seconds, passed in results:
        print(f"{name:<{width}} {seconds:7.1f} s  {'passed' if passed else 'FAILED'}")
    failed = sum(not passed for _name, _seconds, passed in results)
    print(f"{'in all':<{width}} {sum(seconds for _name, seconds, _passed in results):7.1f} s\n")
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
