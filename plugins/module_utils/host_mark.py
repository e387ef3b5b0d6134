"""What a machine that existed before the lab notes of it: whose it is, and what it had before."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

MARK = "/etc/hashistack-lab.json"


def read_mark() -> dict[str, Any] | None:
    """The note: ``lab`` (its id), ``name``, ``folder`` of its clone, ``machine`` and what was there ``before``.

    None where no lab has claimed the machine. A file that can't be read is an error: nobody knows then whose it is.
    """
    try:
        with open(MARK, encoding="utf-8") as stream:
            return dict(json.load(stream))
    except FileNotFoundError:
        return None


def as_it_is(path: str) -> dict[str, str]:
    """A file as ``content``, a link as ``link``; ``{}`` where there is neither."""
    try:
        if os.path.islink(path):
            return {"link": os.readlink(path)}
        with open(path, encoding="utf-8") as stream:
            return {"content": stream.read()}
    except OSError:
        return {}


def put_back(path: str, before: dict[str, str]) -> None:
    """Let a file or link be as it was, in one step; where there was neither, leave what is there."""
    if not before or as_it_is(path) == before:
        return
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.remove(temporary)
    if "link" in before:
        os.symlink(before["link"], temporary)
    else:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(before["content"])
    os.replace(temporary, path)
