"""The cache folder: each artifact in a folder named by the hash of what it is made from, whole or not there at all."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools.preparing.running import PrepareError, as_root, run, say


def folder() -> Path:
    """The cache folder that all clones of one user share."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG_CACHE_HOME: what is not absolute is to be ignored.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "hashistack-lab"


def digest(*parts: str | bytes | Path) -> str:
    """A short hash of texts and of files' contents; the length of each goes in, so that no two lists are alike."""
    total = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()[:12]


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock file; wait, and say so, while another run holds it. It ends with the process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(path.stem, "another run is making this; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def artifact(place: Path, make: Callable[[Path], None], *, root: bool = False) -> Path:
    """Return `place`, made by `make` in a new folder beside it if it is not there yet.

    The folder gets its name only when all of it is on the disk: a run that was cut off leaves nothing that looks
    whole, and its remains go when the same artifact is made again. With `root`, `make` writes as root. Who asks for an
    artifact uses it: its lock's time says when that was last.
    """
    name = place.name
    with lock(lock_of(place)):
        lock_of(place).touch()
        if place.is_dir():
            say(name, "cached")
            return place
        started = time.monotonic()
        work = place.with_name(f".{name}.unfinished")
        remove(work, root=root)
        work.mkdir(parents=True)
        work.chmod(0o755)
        try:
            make(work)
        except BaseException:
            with contextlib.suppress(PrepareError):
                remove(work, root=root)
            raise
        # One call for all of its file system: cheaper than one for each of a base tree's files.
        run(name, ["sync", "-f", str(work)])
        work.rename(place)
        sync_folder(place.parent)
        say(name, f"done in {time.monotonic() - started:.0f} s")
    return place


def lock_of(place: Path) -> Path:
    """The lock file of an artifact."""
    return folder() / "locks" / f"{place.name}.lock"


def remove(path: Path, *, root: bool = False) -> None:
    """Remove a folder, also one that root wrote (`root`)."""
    if not path.exists():
        return
    if root:
        run(path.name, alone(path, ["rm", "-rf", "--one-file-system", str(path)]))
    else:
        shutil.rmtree(path)


def whole(command: Sequence[str]) -> list[str]:
    """The command in name spaces of its own, so that all that it started and mounted ends at once with it."""
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--", *command]


def alone(work: Path, command: Sequence[str]) -> list[str]:
    """The command as root, after any other that writes to `work`: one may outlive a run that was killed."""
    return as_root(["flock", "--no-fork", str(folder() / "locks" / f"{work.name}.root"), *command])


def sync_folder(path: Path) -> None:
    """Wait until the folder's names are on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old or the new text, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("w") as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    part.rename(path)
