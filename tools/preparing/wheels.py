"""What the backend imports: its wheels, installed into one folder for the Pythons of all Debian releases.

For several kinds of processors too: what is compiled bears Python and processor in its name, or a hash of its content.
"""

import filecmp
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.preparing.cache import artifact, digest
from tools.preparing.running import PrepareError, run

PYTHONS = ("3.11", "3.13")
"""Debian 12's and Debian 13's."""
GLIBCS = range(36, 16, -1)
"""Wheels for any glibc 2.x up to Debian 12's run on all of these."""


def prepare(requirements: Path, wheels: Path, machines: Sequence[str]) -> Path:
    """A folder whose folder `all` is what every wheel that the lock file names installs, each checked against it.

    `machines` are kinds of processors as `uname -m` calls them.
    """
    if not requirements.is_file():
        raise PrepareError(f"{requirements} is missing. Restore it from git.")

    def make(work: Path) -> None:
        for python in PYTHONS:
            for machine in machines:
                run(f"wheels for Python {python}", command(requirements, work / "one", python, machine))
                merge(work / "one", work / "all")

    return artifact(wheels / f"wheels-{'-'.join(machines)}-{digest(requirements, Path(__file__))}", make)


def command(requirements: Path, folder: Path, python: str, machine: str) -> list[str]:
    """The command of pip for one Python. The package index and proxies are whatever the user's pip is set up with."""
    abi = f"cp{python.replace('.', '')}"
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBCS] + [f"manylinux2014_{machine}"]
    return [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder)),
        *("--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile", "--requirement", str(requirements)),
        *("--implementation", "cp", "--python-version", python, "--abi", abi, "--abi", "abi3", "--abi", "none"),
        *(word for platform in platforms for word in ("--platform", platform)),
    ]


def merge(one: Path, everything: Path) -> None:
    """Move one set of files to the others: what is compiled bears in its name what it is for, the rest is the same.

    But for the scripts, which name this computer's Python, and the lists that name those.
    """
    for path in sorted(one.rglob("*")):
        name = path.relative_to(one)
        if not path.is_file() or name.parts[0] == "bin" or path.name == "RECORD":
            continue
        target = everything / name
        described = name.parts[0].endswith(".dist-info")
        if target.exists() and not described and not filecmp.cmp(path, target, shallow=False):
            raise PrepareError(
                f"{name} is not the same for all Pythons ({', '.join(PYTHONS)}) and processors: lock another version."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(one)
