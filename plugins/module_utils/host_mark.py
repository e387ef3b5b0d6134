"""What a machine that existed before the lab notes of it: whose it is, and what it had before."""

from __future__ import annotations

import json
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
