"""Many look at the page while Consul cannot tell: what does not need Consul goes on at its speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from tests.running import Running, leader, wait_until

Answer = TypeVar("Answer", int, str)
VIEWERS = 40
SECONDS = 6


@pytest.fixture
def without_a_leader(running: Running) -> Iterator[None]:
    """All but one of Consul's servers are stopped."""
    control = running.names("control")
    try:
        for name in control[1:]:
            running.sh(name, "systemctl kill -s STOP consul")
        wait_until(lambda: leader(running) == "", 30, "Consul has no leader")
        yield
    finally:
        for name in control[1:]:
            running.sh(name, "systemctl kill -s CONT consul")
        # An agent whose word on a check was lost with the leader says it again after two minutes at most.
        running.wait_healthy(150)


@pytest.fixture
def without_an_agent(running: Running) -> Iterator[None]:
    """The backends' own agents hang, and they have to connect to the database anew; the page knows the backends."""
    names = running.names("backend")
    try:
        for name in names:
            running.sh(name, "systemctl kill -s STOP consul")
        ended = running.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'backend-%'"
        )
        assert int(ended) >= len(names), "each has had a connection"
        yield
    finally:
        for name in names:
            running.sh(name, "systemctl kill -s CONT consul")
        running.wait_healthy(60)


@pytest.mark.late(10)
@pytest.mark.journal("backend@backend", "consul@control", "nginx@frontend")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("trouble", ["without_a_leader", "without_an_agent"])
def test_viewers_keep_nobody_waiting(running: Running, request: pytest.FixtureRequest, trouble: str) -> None:
    machine = running.lab.group("backend")[0]
    request.getfixturevalue(trouble)
    enough = threading.Event()
    seen: list[int] = []
    asking: set[int] = set()

    def view(number: int) -> None:
        while not enough.wait(1):
            asking.add(number)
            if number % 2:
                seen.append(running.backend(machine, "api/instances", timeout=20).status_code)
            else:
                seen.append(running.lab.get(f"{running.page}/", timeout=20).status_code)

    def slowest(ask: Callable[[], Answer]) -> tuple[float, set[Answer]]:
        worst, answers = 0.0, set()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            began = time.monotonic()
            answers.add(ask())
            worst = max(worst, time.monotonic() - began)
            time.sleep(0.1)
        return worst, answers

    with ThreadPoolExecutor(VIEWERS + 2) as pool:
        viewers = [pool.submit(view, number) for number in range(VIEWERS)]
        try:
            wait_until(lambda: len(asking) == VIEWERS, 10, "each viewer asks")
            health = pool.submit(slowest, lambda: str(running.backend(machine, "health", timeout=20).json()["status"]))
            notes = pool.submit(slowest, lambda: running.backend(machine, "api/notes", timeout=20).status_code)
            well, read = health.result(), notes.result()
        finally:
            enough.set()
        for viewer in viewers:
            viewer.result()
    assert len(seen) > VIEWERS
    if trouble == "without_a_leader":
        assert running.backend(machine, "api/instances").status_code == 200, "any server tells what it knew"
    # The lab's credentials live for 90 s; that they are about to end is a warning, and no matter of Consul's.
    assert well[1] <= {"ok", "credentials ending"}, well
    assert read[1] == {200}, read
    assert well[0] < 1, f"health: the slowest answer took {well[0]:.2f} s"
    # Where the machine's own agent hangs, a new connection waits half a second for its name.
    assert read[0] < (1 if trouble == "without_a_leader" else 3), f"notes: the slowest answer took {read[0]:.2f} s"
