"""Debian packages that the controller itself needs."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

import yaml

from tools.preparing.running import PrepareError, as_root, run, say

ARTIFACTS = Path(__file__).resolve().parents[2] / "artifacts"


@cache
def lists() -> dict[str, Any]:
    """The content of artifacts/packages.yml."""
    return cast(dict[str, Any], yaml.safe_load((ARTIFACTS / "packages.yml").read_text()))


def kept() -> list[str]:
    """What the base tree keeps as files, for roles and Molecule to install."""
    return sorted({*chain.from_iterable(lists()["groups"].values()), *lists()["molecule"]})


def prepare(sets: Sequence[str]) -> None:
    """Install what is missing of the named sets; without apt, be content with the commands themselves."""
    unknown = set(sets) - set(lists()["controller"])
    if unknown:
        raise PrepareError(f"There is no set of packages '{unknown.pop()}'. Use: {', '.join(lists()['controller'])}.")
    wanted = [package for name in sets for package in lists()["controller"][name]]
    if not shutil.which("apt-get"):
        without_apt(wanted)
        return
    missing = [package for package in wanted if not installed(package)]
    if missing:
        install(missing)
    else:
        say("packages", "cached")


def without_apt(wanted: Sequence[str]) -> None:
    """On a system that is no Debian: fail unless all commands are there, whatever packages they came from."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in lists()["controller_commands"] if not shutil.which(name, path=path)]
    if missing:
        raise PrepareError(
            f"This system has no apt-get, and these commands are missing: {', '.join(missing)}. "
            f"Install what your system has for Debian's packages {', '.join(wanted)}, and run this again."
        )
    say("packages", "no Debian here, but all commands are there")


def installed(package: str) -> bool:
    """Whether dpkg knows the package as installed."""
    status = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
        check=False,
        capture_output=True,
        text=True,
    )
    return status.stdout == "installed"


def install(missing: Sequence[str]) -> None:
    """Install packages by apt-get, as root or by sudo."""
    say("packages", f"installing {' '.join(missing)}")
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run("packages", as_root([*apt, "update"]), environment=environment)
        run("packages", as_root([*apt, "install", "--no-install-recommends", *missing]), environment=environment)
    except PrepareError as error:
        raise PrepareError(
            f"{error} Install these packages by hand and run this again: {' '.join(missing)}."
        ) from error


def install_go() -> str:
    """The path of Debian's own Go, installed now: old, but able to fetch a newer one."""
    if not shutil.which("apt-get"):
        raise PrepareError("Compiling needs Go and it is missing. Install Go 1.21 or newer, and run this again.")
    install(lists()["controller"]["build"])
    return shutil.which("go") or "/usr/bin/go"
