"""Which systemd-nspawn machines run on this computer, whoever started them."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple


class Running(NamedTuple):
    """A machine that runs: systemd-nspawn's PID, the machine's name, and where its files are."""

    pid: int
    name: str
    directory: str


def machines() -> list[Running]:
    """Every systemd-nspawn that runs."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{entry}/cmdline", encoding="utf-8", errors="replace") as file,
            ):
                program, *words = file.read().split("\0")
                if os.path.basename(program) == "systemd-nspawn":
                    options = dict(word.partition("=")[::2] for word in words)
                    found.append(Running(int(entry), options.get("--machine", ""), options.get("--directory", "")))
    return found
