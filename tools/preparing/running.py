"""Commands with their progress on the terminal, and the one kind of error that is told to people."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRESS_SECONDS = 10
LAST_LINES = 30
"""How much of a failed command's output is shown."""


class PrepareError(Exception):
    """What a person can put right: one sentence that says what is wrong, and one that says what to do."""


def say(step: str, text: str) -> None:
    """One line of progress."""
    print(f"prepare: {step}: {text}", flush=True)


def as_root(command: Sequence[str]) -> list[str]:
    """The command as root: as it is for root, by sudo for others."""
    if os.geteuid() == 0:
        return list(command)
    if not shutil.which("sudo"):
        raise PrepareError(f"'{command[0]}' needs root, and sudo is not there. Run this as root or install sudo.")
    return ["sudo", "--preserve-env=http_proxy,https_proxy,no_proxy,DEBIAN_FRONTEND", "--", *command]


def run(
    step: str,
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    end: str = "TERM",
) -> str:
    """Run a command to its end and return its standard output; a long one says every 10 s that it is still at it.

    What it writes to standard error is shown only if it fails. When this process ends before it, even by SIGKILL, it
    gets the signal `end`; not so where sudo stands between, which no user may signal.
    """
    for name in ("setpriv", command[0]):
        if not shutil.which(name):
            raise PrepareError(f"The program '{name}' is missing. Install it and run this again.")
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            # Linux ends the command when this process is killed, so that no build goes on without anyone.
            ["setpriv", "--pdeathsig", end, "--", *command],
            cwd=cwd,
            env=None if environment is None else {**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            while True:
                try:
                    status = process.wait(timeout=PROGRESS_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(step, f"{time.monotonic() - started:.0f} s ...")
        except BaseException:
            with contextlib.suppress(PermissionError):
                process.send_signal(signal.Signals[f"SIG{end}"])
            process.wait()
            raise
        output.seek(0)
        errors.seek(0)
        text = output.read()
        if status:
            lines = (text + errors.read()).splitlines()[-LAST_LINES:]
            print("\n".join(f"    {line}" for line in lines), file=sys.stderr, flush=True)
            raise PrepareError(
                f"{step}: '{' '.join(command)[:200]}' ended with status {status}; its last lines are above."
            )
        return text
