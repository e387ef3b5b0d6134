"""Two machines are one database: what is written is on both, and where one is lost the other one goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import requests

from tests.running import Running, members, primary, wait_until
from tools.failures.machines import Containers

pytestmark = [pytest.mark.journal("patroni@database", "consul@database"), pytest.mark.timeout(180)]
PRIMARY, REPLICA = "postgresql.service.consul", "postgresql-replica.service.consul"


def other(running: Running, name: str) -> str:
    """The machine that is not this one."""
    return next(machine for machine in running.names("database") if machine != name)


def whole(running: Running) -> bool:
    """Whether there are a primary and a replica that acknowledges each write."""
    seen = {name: (member["role"], member["state"]) for name, member in members(running).items()}
    roles = sorted(role for role, state in seen.values() if state in ("running", "streaming"))
    assert roles == ["leader", "sync_standby"], seen
    return True


@pytest.fixture
def before(running: Running) -> Iterator[str]:
    """The primary; both machines are well before and after."""
    wait_until(lambda: whole(running), 60, "both are well")
    running.sql("CREATE TABLE IF NOT EXISTS written (number int)", "postgres")
    running.sql("TRUNCATE written", "postgres")
    yield primary(running)
    wait_until(lambda: whole(running), 60, "both are well again, with no command given")


def resolved(running: Running, name: str) -> set[str]:
    return set(running.sh("control-1", f"dig +short {name}").split())


def address(running: Running, name: str) -> str:
    return running.lab.machine(name).address


def write(running: Running, number: int) -> None:
    running.sql(f"INSERT INTO written VALUES ({number})", "postgres")


def written(running: Running) -> str:
    return running.sql("SELECT count(DISTINCT number) FROM written", "postgres")


def follows(running: Running, was: str, seconds: float) -> None:
    """Wait until another machine takes writes."""

    def another() -> bool:
        assert primary(running) not in ("", was)
        write(running, 2)
        return True

    wait_until(another, seconds, f"another machine than {was} takes writes")


def test_names_lead_to_who_writes_and_who_follows(running: Running, before: str) -> None:
    names = {PRIMARY: {address(running, before)}, REPLICA: {address(running, other(running, before))}}
    wait_until(lambda: {name: resolved(running, name) for name in names} == names, 10, "each has its name")


def test_a_write_is_on_both_when_it_is_acknowledged(running: Running, before: str) -> None:
    write(running, 1)
    replica = other(running, before)
    read = "psql -U postgres -XAtc 'SELECT count(*) FROM written'"
    wait_until(lambda: running.sh(replica, read).strip() == "1", 5, "the replica has it")
    refused = running.attempt(replica, "psql -U postgres -XAtc 'INSERT INTO written VALUES (3)'")
    assert "read-only transaction" in refused.stderr


def test_a_switchover_loses_nothing(running: Running, before: str) -> None:
    write(running, 1)
    began = time.monotonic()
    running.sh(before, f"patronictl -c /etc/patroni/config.yml switchover --leader {before} --force")
    follows(running, before, 10)
    assert time.monotonic() - began < 15
    assert written(running) == "2"


def test_a_killed_server_is_back_or_another_takes_over(running: Running, before: str) -> None:
    write(running, 1)
    running.sh(before, "pkill -KILL -u postgres -x postgres")

    def takes_writes() -> bool:
        write(running, 2)
        return True

    wait_until(takes_writes, 15, "the database takes writes")
    assert written(running) == "2"


def test_a_killed_patroni_stops_nothing(running: Running, before: str, kill: Callable[[str, str], None]) -> None:
    kill(before, "patroni")
    write(running, 1)
    url = f"https://{address(running, before)}:8008/primary"
    wait_until(lambda: running.lab.get(url, timeout=1).status_code == 200, 10, "it is the primary still")
    assert written(running) == "1"


def test_a_stopped_machine_is_followed_and_comes_back(running: Running, before: str) -> None:
    write(running, 1)
    running.sh(before, "systemctl stop patroni")
    try:
        follows(running, before, 15)
        assert written(running) == "2"
        gone = {address(running, before)}
        wait_until(lambda: not gone & resolved(running, PRIMARY), 5, "its name leads elsewhere")
    finally:
        running.sh(before, "systemctl start patroni")


def test_a_killed_machine_is_followed(running: Running, before: str) -> None:
    """And is a replica again once it runs."""
    write(running, 1)
    Containers(running).kill([before])
    try:
        follows(running, before, 20)
        assert written(running) == "2"
    finally:
        running.playbook("playbooks/machines.yml").require()


def test_a_machine_that_is_cut_off_takes_no_writes(running: Running, before: str) -> None:
    """Nobody can tell it that there is another primary; it finds out by itself that it must not go on."""
    write(running, 1)
    machines = Containers(running)
    machines.cut(before, "drop", "drop")
    try:
        follows(running, before, 20)
        assert written(running) == "2"
    finally:
        machines.join()
    # Before it can have learned of anything.
    done = running.attempt(before, "psql -U postgres -XAtc 'INSERT INTO written VALUES (3)'")
    assert done.returncode != 0


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_a_stranger_changes_nothing(running: Running, before: str, method: str) -> None:
    """Who has no certificate of the lab's, and who has one but is no machine of the database."""
    paths = {"POST": "switchover", "PATCH": "config", "PUT": "config"}
    url = f"https://{address(running, before)}:8008/{paths[method]}"
    files = running.lab.directory / "tls" / before
    pairs = [None, (str(files / "postgresql.pem"), str(files / "postgresql.key"))]
    for pair in pairs:
        answer = requests.request(
            method, url, json={"leader": before, "pause": True}, verify=str(running.lab.authority), cert=pair, timeout=5
        )
        assert answer.status_code == 403, answer.text
    assert primary(running) == before
