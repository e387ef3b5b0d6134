"""The database loses its primary, is one machine only, and gets a second one again, while notes are written."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.running import Running, Traffic, members, primary, wait_until
from tools.failures.machines import Containers

pytestmark = [
    pytest.mark.late(13),
    pytest.mark.timeout(400),
    pytest.mark.journal("patroni@database", "backend@backend", "consul@database"),
]
RATE = 20
"""Writes in a second."""
SWITCHOVER = 4.0
"""Seconds that a write may wait while another machine is made the primary."""
VACANT = 0.5
"""Seconds in which another machine leads, once Consul knows of none that does."""
ASKED = 2.0
"""Seconds for which Patroni asks a dead primary's machine before another one leads."""


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


class Vacancies:
    """How long each time, in seconds, Consul knew of no primary."""

    def __init__(self, running: Running) -> None:
        self.seconds: list[float] = []
        self._consul = running.lab.consul(timeout=10)
        self._enough = threading.Event()

    def __enter__(self) -> Vacancies:
        self._pool = ThreadPoolExecutor(1)
        self._watching = self._pool.submit(self._watch)
        return self

    def _watch(self) -> None:
        index, session, since = None, None, None
        while not self._enough.is_set():
            index, leader = self._consul.kv.get("service/postgresql/leader", index=index, wait="1s")
            now = time.monotonic()
            if leader is None:
                since = since or now
            elif since or leader["Session"] != session:
                if session:
                    # Two changes may come as one.
                    self.seconds.append(now - (since or now))
                session, since = leader["Session"], None

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._pool.shutdown()

    def judge(self, most: float = VACANT) -> None:
        """It was so since the last time, and for a moment only."""
        if self._watching.done():
            self._watching.result()  # It has failed.
        seen, self.seconds = self.seconds, []
        print("without a primary, in seconds:", ", ".join(f"{seconds:.2f}" for seconds in seen))
        assert seen, "Consul has not known of a moment without a primary"
        assert max(seen) < most, "another machine leads as soon as nobody does"


@pytest.fixture(scope="module")
def lab(running: Running) -> Running:
    """The lab, whose database has two machines."""
    if running.lab.kind != "containers" or running.names("database") != ["database-1", "database-2"]:
        pytest.skip("two machines of the database on this computer are needed")
    return running


@pytest.fixture(scope="module")
def vacancies(lab: Running) -> Iterator[Vacancies]:
    """When nobody led."""
    with Vacancies(lab) as seen:
        yield seen


def hand_over(running: Running, name: str) -> None:
    """Make a machine the primary, as an operator does."""
    if primary(running) != name:
        running.playbook("playbooks/switchover.yml", "-e", f"to={name}").require()
        running.wait_healthy(60)


def test_one_leads_and_the_other_has_all_that_is_acknowledged(lab: Running) -> None:
    assert sorted(member["role"] for member in members(lab).values()) == ["leader", "sync_standby"]


def test_a_planned_switchover_fails_no_request(lab: Running, vacancies: Vacancies) -> None:
    hand_over(lab, "database-1")
    with Writer(lab) as writer:
        wait_until(lambda: len(writer.waited) > RATE, 10, "notes are written")
        hand_over(lab, "database-2")
    writer.judge(SWITCHOVER)
    vacancies.judge()
    assert lab.lab.vault().read("database/creds/backend-1"), "Vault makes users on the new one"
    server = {lab.backend(machine, "api/status").json()["database"]["server"] for machine in lab.lab.group("backend")}
    assert server == {lab.lab.machine("database-2").address}


def test_the_primarys_machine_dies(lab: Running, vacancies: Vacancies) -> None:
    """Nothing that was acknowledged is lost, notes are read meanwhile, and it follows the other one when it is back."""
    machines, before, word = Containers(lab), primary(lab), uuid.uuid4().hex
    with Traffic(lab, path="notes?limit=1", count=600, rate=10, seconds=60) as readers, Writer(lab) as writer:
        wait_until(lambda: len(writer.waited) > RATE, 10, "notes are written")
        machines.kill([before])
        try:
            time.sleep(1)  # Not a write that was under way.
            wait_until(lambda: lab.api("notes", "POST", json={"text": word}).status_code == 201, 30, "it takes writes")
            readers.stop()
        finally:
            machines.start([before])
        wait_until(lambda: members(lab)[before]["role"] == "sync_standby", 40, f"{before} follows")
    writer.judge(15, failures=True)
    vacancies.judge(ASKED + VACANT)
    readers.require_no_failure(least=20)
    lab.sql(f"DELETE FROM notes WHERE text = '{word}'")
    lab.wait_healthy(60)


@pytest.fixture(scope="module")
def alone(lab: Running, vacancies: Vacancies) -> Running:
    """Without its primary's machine, which an operator has removed."""
    hand_over(lab, "database-2")
    with Writer(lab) as writer:
        lab.playbook("playbooks/remove.yml", "-e", "machine=database-2").require()
    writer.judge(5)
    vacancies.judge()
    return lab


def test_the_primary_hands_over_before_it_is_removed(alone: Running) -> None:
    """No write failed meanwhile (see the fixture)."""
    assert primary(alone) == "database-1"
    assert alone.sql("SHOW synchronous_standby_names") == "", "nobody is waited for"


def test_a_replica_is_made_of_the_primary(alone: Running) -> None:
    with Writer(alone) as writer:
        alone.playbook("site.yml", "--limit", "database").require()
    writer.judge(5)
    wait_until(lambda: members(alone)["database-2"]["role"] == "sync_standby", 30, "database-2 has all data")
    alone.wait_healthy(60)
