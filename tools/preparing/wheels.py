"""What the backend runs on, as wheels for the Pythons of all Debian releases that a machine may have."""

import os
import sys
from pathlib import Path

from tools.preparing.cache import artifact, digest
from tools.preparing.running import PrepareError, run

PYTHONS = ("3.11", "3.13")
"""Debian 12's and Debian 13's."""
GLIBCS = range(36, 16, -1)
"""Wheels for any glibc 2.x up to Debian 12's run on all of these."""


def prepare(requirements: Path, wheels: Path) -> Path:
    """One flat folder with every wheel that the lock file names, each checked against it."""
    if not requirements.is_file():
        raise PrepareError(f"{requirements} is missing. Restore it from git.")
    machine = os.uname().machine
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBCS] + [f"manylinux2014_{machine}"]
    name = f"wheels-{machine}-{digest(requirements, ' '.join(PYTHONS), ' '.join(platforms))}"

    def make(work: Path) -> None:
        for python in PYTHONS:
            run(f"wheels for Python {python}", command(requirements, work, python, platforms))

    return artifact(wheels / name, make)


def command(requirements: Path, folder: Path, python: str, platforms: list[str]) -> list[str]:
    """The command of pip for one Python. The package index and proxies are whatever the user's pip is set up with."""
    abi = f"cp{python.replace('.', '')}"
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)),
        *("--require-hashes", "--no-deps", "--only-binary=:all:", "--requirement", str(requirements)),
        *("--implementation", "cp", "--python-version", python, "--abi", abi, "--abi", "abi3", "--abi", "none"),
        *(word for platform in platforms for word in ("--platform", platform)),
    ]
