"""The secrets' files: whether they are there, how old they are, what the harmless one says."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from lab_backend.settings import Settings

log = logging.getLogger(__name__)


def stamp(path: Path) -> tuple[int, int] | None:
    """What changes whenever the file does (Vault Agent renames a new one into place); None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def describe(path: Path) -> dict[str, Any]:
    """Whether the file can be read, and its age in seconds."""
    try:
        age = max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return {"present": False, "age_seconds": None}
    return {"present": os.access(path, os.R_OK), "age_seconds": round(age, 1)}


def describe_all(settings: Settings) -> dict[str, dict[str, Any]]:
    """Each secret's file by its name."""
    return {path.name: describe(path) for path in (settings.service_file, settings.app_file)}


def greeting(settings: Settings) -> str | None:
    """The greeting from app.json; None while there is none that can be read."""
    try:
        content = json.loads(settings.app_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    value = content.get("greeting") if isinstance(content, dict) else None
    return value if isinstance(value, str) else None


def complain(settings: Settings, refused: bool) -> None:
    """Tell this machine that the newest credentials are refused, by a file that is there for as long as they are.

    Whoever brings the secrets acts on it; this process knows nothing of how.
    """
    file = settings.complaint_file
    if file is None:
        return
    try:
        if refused:
            file.touch()
            log.warning("the newest credentials are refused: %s says so", file)
        else:
            file.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot say whether the credentials are refused: %s", file, error.strerror)
