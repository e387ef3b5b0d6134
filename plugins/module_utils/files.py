"""Files on the controller that must never be half-written or readable by others."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any


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


def write_private_json(path: str, value: dict[str, Any]) -> None:
    """Write ``value`` as JSON by ``write_private``."""
    write_private(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
