"""Take out of the cache what nobody uses any more."""

import contextlib
import fcntl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tools.preparing import cache
from tools.preparing.running import PrepareError, as_root, run, say

DAYS = 60
"""How long what nobody asked for is kept: a clone that rests, or goes back to a version, finds it still there."""
KINDS = {"base": True, "images": True, "layers": True, "programs": False, "wheels": False}
"""The cache's folders of artifacts, and whether root wrote them."""
MACHINES = Path("/var/lib/hashistack-lab")
"""Where each container notes the base tree and the layers that it stands on, in LAB/MACHINE/base."""


def prune(machines: Path = MACHINES) -> list[Path]:
    """Remove each artifact that no run asked for in the last `DAYS` and that no container stands on; what went.

    A virtual machine stands on a copy of its image, and needs nothing of the cache.
    """
    removed = []
    old = [(place, root) for kind, root in KINDS.items() for place in artifacts(cache.folder() / kind) if unused(place)]
    try:
        used = stood_on(machines) if any(root for _, root in old) else set()
        for place, root in old:
            if place not in used and take_out(place, root=root):
                removed.append(place)
                say("prune", f"removed {place.name}, which nobody used for {DAYS} days")
    except PrepareError as error:
        say("prune", f"{error} What is old stays until a later run.")
    (Path(sys.prefix) / "complete").touch()
    for venv in cache.folder().glob("venv-*"):
        if past(venv / "complete"):
            cache.remove(venv)
            removed.append(venv)
            say("prune", f"removed {venv.name}, which nobody used for {DAYS} days")
    return removed


def artifacts(kind: Path) -> Iterator[Path]:
    """The artifacts of a folder, and the remains of one that a killed run was making (.NAME.unfinished)."""
    yield from (path for path in sorted(kind.glob("*")) + sorted(kind.glob(".*.unfinished")) if path.is_dir())


def unused(place: Path) -> bool:
    """Whether nobody asked for the artifact in time. What has no lock yet counts from now on."""
    lock = lock_for(place)
    if not lock.exists():
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    return past(lock)


def lock_for(place: Path) -> Path:
    """The lock file, that of the artifact for its remains."""
    name = place.name
    whole = name.removeprefix(".").removesuffix(".unfinished") if name.startswith(".") else name
    return cache.lock_of(place.with_name(whole))


def past(path: Path) -> bool:
    """Whether the file was last touched before the time that counts."""
    try:
        return path.stat().st_mtime < time.time() - DAYS * 86400
    except FileNotFoundError:
        return False


def stood_on(machines: Path) -> set[Path]:
    """The folders that containers stand on, of all labs of all users: only root may look."""
    if not machines.is_dir():
        return set()
    command = ["find", str(machines), "-mindepth", "3", "-maxdepth", "3", "-name", "base", "-type", "f"]
    text = run("prune", as_root([*command, "-exec", "cat", "{}", ";", "-printf", "\\n"]))
    return {Path(layer) for line in text.splitlines() for layer in line.split(":") if layer}


def take_out(place: Path, *, root: bool) -> bool:
    """Remove the artifact unless a run has it or has asked for it meanwhile; whether it is gone."""
    with lock_for(place).open("r+") as handle, contextlib.suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if past(lock_for(place)):
            # Out of its name first: a removal that is cut off leaves nothing that looks whole.
            gone = place if place.name.startswith(".") else place.with_name(f".{place.name}.unfinished")
            if gone != place:
                cache.remove(gone, root=root)
                place.rename(gone)
            cache.remove(gone, root=root)
            return True
    return False
