"""Who may not ask a backend is refused, and cannot keep it from those who may."""

from __future__ import annotations

import textwrap
import threading
import time
from collections import Counter

import pytest

from tests.running import Running, Traffic, wait_until

# Opens connections that send the first byte of a TLS handshake and no more, and opens another for each that is closed,
# until its time is over. Bounded in number, rate and time. Prints how many stood at once, and how many were opened.
STALL = textwrap.dedent(
    """
    import selectors, socket, sys, time
    count, seconds, addresses = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    selector, end, opened, most, at_once = selectors.DefaultSelector(), time.monotonic() + seconds, 0, 0, {}
    for address in addresses:
        at_once[address] = 0
    while time.monotonic() < end:
        for address in addresses:
            for _ in range(min(20, count - at_once[address])):
                try:
                    connection = socket.create_connection((address, 8443), 2)
                    connection.sendall(bytes([22]))
                except OSError:
                    break
                opened += 1
                at_once[address] += 1
                selector.register(connection, selectors.EVENT_READ, address)
        most = max(most, min(at_once.values()))
        for key, _ in selector.select(0.05):
            try:
                gone = not key.fileobj.recv(1024)
            except OSError:
                gone = True
            if gone:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                at_once[key.data] -= 1
    print(most, opened)
    """
)
STALLED = 200
SECONDS = 15


@pytest.mark.late(10)
@pytest.mark.journal("backend@backend", "nginx@backend", "nginx@frontend")
@pytest.mark.timeout(120)
def test_stalled_connections_keep_nobody_out(running: Running) -> None:
    """From a machine that no backend serves, and from one that it does serve: 200 to each backend, all the time."""
    backends = running.lab.group("backend")
    machines = [running.names("database")[0], running.names("frontend")[0]]
    places = " ".join(machine.address for machine in backends)
    printed: list[str] = []

    def stall(name: str) -> None:
        printed.append(running.sh(name, f"python3 - {STALLED // len(machines)} {SECONDS} {places}", STALL))

    threads = [threading.Thread(target=stall, args=(name,)) for name in machines]
    states: Counter[str] = Counter()
    consul = running.lab.consul()
    wait_until(lambda: running.count() == len(backends), 30, "all backends are there before it begins")
    with Traffic(running, "notes", count=SECONDS * 20, rate=20, seconds=SECONDS) as traffic:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            _, checks = consul.health.checks("backend")
            states.update(check["Status"] for check in checks)
            time.sleep(0.2)
    for thread in threads:
        thread.join()
    held = [int(line.split()[0]) for line in printed]
    assert sum(held) >= STALLED * 0.9, f"only {held} stood at once"
    assert set(states) == {"passing"}, f"Consul's checks of the backends: {dict(states)}"
    traffic.require_no_failure(least=SECONDS * 10)
    wait_until(lambda: running.count() == len(backends), 10, "all backends are there")
