"""The database gets a second machine, loses its primary, and is one machine again, while notes are written."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.running import Running, members, primary, wait_until
from tools.failures.machines import Containers
from tools.lab import ROOT, load
from tools.running import ssh_config

pytestmark = [
    pytest.mark.late(13),
    pytest.mark.timeout(400),
    pytest.mark.journal("patroni@database", "backend@backend", "consul@database"),
]
RATE = 20
"""Writes in a second."""


class Writer:
    """Writes notes while something else happens; each has a text of its own."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.word = uuid.uuid4().hex
        self.codes: dict[str, int] = {}
        self.waited: list[float] = []
        self._enough = threading.Event()

    def __enter__(self) -> Writer:
        self._pool = ThreadPoolExecutor(100)
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()
        return self

    def _send(self) -> None:
        while not self._enough.wait(1 / RATE) and len(self.codes) < 6000:
            text = f"{self.word} {len(self.codes)}"
            self.codes[text] = 0
            self._pool.submit(self._write, text)

    def _write(self, text: str) -> None:
        began = time.monotonic()
        try:
            answer = self.running.api("notes", "POST", timeout=20, json={"text": text})
            self.codes[text] = answer.status_code
        except requests.RequestException:
            self.codes[text] = -1
        self.waited.append(time.monotonic() - began)

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()
        self._pool.shutdown()

    def judge(self, slowest: float, failures: bool = False) -> None:
        """Each one that was acknowledged is there once; none took longer, and none failed unless it may."""
        stored = self.running.sql(f"SELECT text FROM notes WHERE text LIKE '{self.word}%'").splitlines()
        self.running.sql(f"DELETE FROM notes WHERE text LIKE '{self.word}%'")
        acknowledged = {text for text, code in self.codes.items() if code == 201}
        assert len(stored) == len(set(stored)), "a note is there twice"
        assert acknowledged <= set(stored), f"lost: {acknowledged - set(stored)}"
        others = [code for code in self.codes.values() if code != 201]
        print(f"{len(self.codes)} writes, {len(others)} failed, the longest took {max(self.waited):.1f} s")
        assert set(others) <= ({503} if failures else set()), (
            f"{len(others)} of {len(self.codes)} failed: {set(others)}"
        )
        assert max(self.waited) < slowest


@pytest.fixture(scope="module")
def grown(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The lab with a line more in its inventory; database-1 is alone again afterwards."""
    if running.lab.kind != "containers":
        pytest.skip("another machine is made on this computer")
    inventory = [*running.inventory, str(ROOT / "tests/replica.yml")]
    lab = load(inventory)
    more = Running(lab, inventory, running.extra, ssh_config(lab, tmp_path_factory.mktemp("replica")))
    with Writer(running) as writer:
        more.playbook("site.yml", "--limit", "database").require()
        more.wait_healthy(60)
    writer.judge(5)
    yield more
    running.playbook("playbooks/remove.yml", "-e", "machine=database-2", inventory=inventory).require()
    running.wait_healthy(60)


def test_a_replica_is_made_of_the_primary(grown: Running) -> None:
    """No write failed meanwhile (see the fixture)."""
    assert {name: member["role"] for name, member in members(grown).items()} == {
        "database-1": "leader",
        "database-2": "sync_standby",
    }


def test_a_planned_switchover_fails_no_request(grown: Running) -> None:
    with Writer(grown) as writer:
        wait_until(lambda: len(writer.waited) > RATE, 10, "notes are written")
        grown.playbook("playbooks/switchover.yml", "-e", "to=database-2").require()
        wait_until(lambda: primary(grown) == "database-2", 10, "database-2 is the primary")
        grown.wait_healthy(60)
    writer.judge(5)
    assert grown.lab.vault().read("database/creds/backend-1"), "Vault makes users on the new one"


def test_the_primarys_machine_dies(grown: Running) -> None:
    """Nothing that was acknowledged is lost, and it follows the other one when it is back."""
    machines, before, word = Containers(grown), primary(grown), uuid.uuid4().hex
    with Writer(grown) as writer:
        wait_until(lambda: len(writer.waited) > RATE, 10, "notes are written")
        machines.kill([before])
        try:
            time.sleep(1)  # Not a write that was under way.
            wait_until(
                lambda: grown.api("notes", "POST", json={"text": word}).status_code == 201, 30, "it takes writes"
            )
        finally:
            machines.start([before])
        wait_until(lambda: members(grown)[before]["role"] == "sync_standby", 40, f"{before} follows")
    writer.judge(15, failures=True)
    grown.sql(f"DELETE FROM notes WHERE text = '{word}'")
    grown.wait_healthy(60)


def test_the_primary_hands_over_before_it_is_removed(grown: Running) -> None:
    if primary(grown) != "database-2":
        grown.playbook("playbooks/switchover.yml", "-e", "to=database-2").require()
        grown.wait_healthy(60)
    with Writer(grown) as writer:
        grown.playbook("playbooks/remove.yml", "-e", "machine=database-2").require()
    writer.judge(5)
    assert primary(grown) == "database-1"
