"""gunicorn as the unit starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
APPLICATION = """
import os, signal

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one half"
    if environ["PATH_INFO"] == "/killed":
        os.kill(os.getpid(), signal.SIGKILL)
    yield b", other half"
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[Path]:
    """The socket of a gunicorn with the backend's configuration and an application that can be killed in an answer."""
    (tmp_path / "halves.py").write_text(APPLICATION)
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--config", "python:lab_backend.gunicorn_conf", "halves:app"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{SOURCE}:{tmp_path}",
            "BACKEND_BIND": f"unix:{tmp_path / 'socket'}",
            "BACKEND_SECRETS": str(tmp_path),
        },
        stdout=log,
        stderr=log,
        cwd=tmp_path,
    )
    try:
        yield tmp_path / "socket"
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        log.seek(0)
        print(log.read())


def ask(address: Path, path: str) -> bytes:
    """All that is answered to a request."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(address))
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                return b"".join(iter(lambda: connection.recv(4096), b""))
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline, "gunicorn has not started"
            time.sleep(0.1)


def test_killed_while_it_answers_it_sends_nothing(address: Path) -> None:
    whole = ask(address, "/")
    assert whole.startswith(b"HTTP/1.1 200 OK")
    assert b", other half" in whole
    assert ask(address, "/killed") == b"", "nginx passes on what has begun, and asks nobody else"
    assert ask(address, "/").startswith(b"HTTP/1.1 200 OK"), "the next worker answers"
