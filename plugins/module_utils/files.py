"""Files on the controller that must never be half-written or readable by others."""

from __future__ import annotations

import os
import tempfile


def write_private(path: str, content: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` by ``content`` in one step that survives a crash: written beside it, synced, renamed."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
