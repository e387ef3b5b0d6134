"""Files below a folder whose owner is not trusted: no link on the way is ever followed.

Root in a container can turn every file and folder of it into a link to one of this computer's. So each folder on the
way is opened from the one before with ``O_NOFOLLOW``, and a file is written beside its place and moved there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

LIMIT = 1024 * 1024
"""Bytes that are read of a file at most."""


@contextlib.contextmanager
def _folder(root: str, path: str, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder ``path`` below ``root``. With ``make``, what is no folder on the way becomes one.

    Raises:
        OSError: something on the way is missing or no folder; a link is none.

    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in path.split("/") if path else []:
            made = make and _make(part, descriptor)
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
            if made:
                os.fchmod(descriptor, 0o755)  # Whatever the umask.
        yield descriptor
    finally:
        os.close(descriptor)


def _make(name: str, parent: int) -> bool:
    """Make a folder unless there is one; whether it was made."""
    present = _mode(name, parent)
    if stat.S_ISDIR(present):
        return False
    if present:
        os.unlink(name, dir_fd=parent)
    os.mkdir(name, 0o700, dir_fd=parent)
    return True


def _mode(name: str, parent: int) -> int:
    """The mode of what has this name, not of what it leads to; 0 where there is nothing."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def read(root: str, path: str) -> str | None:
    """What the file ``path`` below ``root`` holds; None where no regular file of text is there."""
    folder, name = os.path.split(path)
    try:
        with _folder(root, folder) as parent:
            if not stat.S_ISREG(_mode(name, parent)):  # Opening a pipe or a device may have effects.
                return None
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with open(os.open(name, flags, dir_fd=parent), "rb") as stream:
                return stream.read(LIMIT).decode()
    except (OSError, UnicodeDecodeError):
        return None


def write(root: str, path: str, content: str, mode: int = 0o644) -> None:
    """Put a regular file with ``content`` at ``path`` below ``root``, whatever was there, and the folders above it."""
    folder, name = os.path.split(path)
    temporary = f".{name}.new"
    with _folder(root, folder, make=True) as parent:
        if _mode(temporary, parent):
            os.unlink(temporary, dir_fd=parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(temporary, flags, 0o600, dir_fd=parent), "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def protect(root: str, path: str, mode: int = 0o700) -> None:
    """Give the folder ``path`` below ``root`` this mode; it is made where it is missing."""
    with _folder(root, path, make=True) as folder:
        os.fchmod(folder, mode)
