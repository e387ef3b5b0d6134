"""The pool: credentials that change, connections that break, a server that goes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg2
import pytest
from conftest import Cluster
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from lab_backend import database
from lab_backend.settings import Settings


def who(cursor: Cursor, _attempt: int = 0) -> str:
    cursor.execute("SELECT current_user::text")
    row = cursor.fetchone()
    assert row
    return str(row[0])


@pytest.fixture
def pool(settings: Settings) -> Iterator[database.Pool]:
    it = database.open_pool(settings)
    yield it
    it.close()


class Load:
    """Threads that ask the pool without a pause, and what went wrong."""

    def __init__(self, pool: database.Pool, threads: int = 3) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self.users: set[str] = set()
        self._end = threading.Event()
        self._pool = pool
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def _ask(self) -> None:
        while not self._end.is_set():
            try:
                self.users.add(self._pool.run(who, 4.0))
                self.answers += 1
            except Exception as error:
                self.failures.append(repr(error))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_for(20)
        return self

    def wait_for(self, more: int) -> None:
        goal, deadline = self.answers + more, time.monotonic() + 10
        while self.answers < goal:
            assert time.monotonic() < deadline, self.failures
            time.sleep(0.005)

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def test_connection_is_used_again(pool: database.Pool) -> None:
    assert [pool.run(who, 1.0) for _ in range(5)] == ["first"] * 5
    assert pool.opened_total == 1


def test_new_service_file_means_new_connection(pool: database.Pool, settings: Settings, cluster: Cluster) -> None:
    assert pool.run(who, 1.0) == "first"
    cluster.create_user("second", "two")
    cluster.write_service(settings.service_file, "second", "two")
    assert pool.run(who, 1.0) == "second"
    assert pool.open_count == 1


def test_rotation_and_revocation_under_load_lose_nothing(
    pool: database.Pool, settings: Settings, cluster: Cluster
) -> None:
    with Load(pool) as load:
        cluster.create_user("second", "two")
        cluster.write_service(settings.service_file, "second", "two")
        cluster.revoke_user("first")
        load.wait_for(50)
    assert load.failures == []
    assert load.users == {"first", "second"}


def test_sessions_ended_under_load_lose_nothing(pool: database.Pool, cluster: Cluster) -> None:
    with Load(pool) as load:
        for _ in range(5):
            cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'first'")
            load.wait_for(20)
    assert load.failures == []
    assert pool.broken_total > 0


def test_restart_of_the_server_under_load_loses_nothing(pool: database.Pool, cluster: Cluster) -> None:
    with Load(pool) as load:
        cluster.stop()
        cluster.start()
        load.wait_for(50)
    assert load.failures == []


def test_wrong_new_password_keeps_the_old_connection(pool: database.Pool, settings: Settings, cluster: Cluster) -> None:
    assert pool.run(who, 1.0) == "first"
    cluster.write_service(settings.service_file, "first", "changed")
    assert pool.run(who, 1.0) == "first"
    with pytest.raises(database.Unavailable, match="authentication failed"):
        database.open_pool(settings).run(who, 0.5)
    cluster.sql("ALTER ROLE first PASSWORD 'changed'")
    with Load(pool) as load:
        deadline = time.monotonic() + 5
        while pool.opened_total < 2 and time.monotonic() < deadline:
            load.wait_for(1)
    assert (load.failures, load.users) == ([], {"first"})
    assert pool.opened_total >= 2


def test_changed_password_with_the_old_file_still_there(
    pool: database.Pool, settings: Settings, cluster: Cluster
) -> None:
    """The documented change: first PostgreSQL's password, then the secret; in between one connection has to do."""
    pool.run(who, 1.0)
    cluster.sql("ALTER ROLE first PASSWORD 'changed'")
    with Load(pool) as load:
        load.wait_for(50)
        cluster.write_service(settings.service_file, "first", "changed")
        load.wait_for(50)
    assert load.failures == []
    assert pool.opened_total > 1


def test_no_credentials_yet(settings: Settings) -> None:
    settings.service_file.unlink()
    with pytest.raises(database.Unavailable, match="not there yet"):
        database.open_pool(settings).run(who, 0.1)


def test_credentials_that_come_while_one_waits(settings: Settings, cluster: Cluster) -> None:
    settings.service_file.unlink()
    late = threading.Timer(0.3, cluster.write_service, (settings.service_file, "first", "one"))
    late.start()
    assert database.open_pool(settings).run(who, 3.0) == "first"
    late.join()


def test_exhausted_pool_waits_then_says_so(pool: database.Pool) -> None:
    held, release = threading.Barrier(4), threading.Event()

    def hold(cursor: Cursor, _attempt: int) -> None:
        held.wait()
        release.wait()

    holders = [threading.Thread(target=pool.run, args=(hold, 5.0)) for _ in range(3)]
    for thread in holders:
        thread.start()
    held.wait()
    began = time.monotonic()
    with pytest.raises(database.Unavailable, match="busy"):
        pool.run(who, 0.3)
    assert 0.25 < time.monotonic() - began < 1.5
    threading.Timer(0.2, release.set).start()
    assert pool.run(who, 3.0) == "first"
    for thread in holders:
        thread.join()
    assert pool.open_count == 3


def test_too_long_a_queue_is_refused_at_once(settings: Settings, cluster: Cluster) -> None:
    """So that threads stay free for /health while the server is away."""
    pool = database.open_pool(settings)
    settings.service_file.write_text(settings.service_file.read_text().replace(str(cluster.port), "1"))
    seconds: list[float] = []

    def ask() -> None:
        began = time.monotonic()
        with pytest.raises(database.Unavailable):
            pool.run(who, 1.0)
        seconds.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(1 for value in seconds if value < 0.5) >= 4


def test_statement_error_keeps_the_connection(pool: database.Pool) -> None:
    with pytest.raises(psycopg2.errors.UndefinedTable):
        pool.run(lambda cursor, _: cursor.execute("SELECT * FROM nothing"), 1.0)
    assert pool.run(who, 1.0) == "first"
    assert pool.opened_total == 1


def test_user_may_only_change_rows(pool: database.Pool) -> None:
    for statement in (
        "ALTER TABLE notes ADD COLUMN more text",
        "CREATE TABLE mine (id int)",
        "DROP TABLE notes",
        "TRUNCATE notes",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            pool.run(lambda cursor, _, statement=statement: cursor.execute(statement), 1.0)


def test_idle_connections_beyond_the_first_are_closed(pool: database.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = threading.Barrier(3)
    threads = [threading.Thread(target=pool.run, args=(lambda _c, _a: barrier.wait(), 5.0)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.idle_count == 3
    pool.tidy()
    assert pool.idle_count == 3
    monkeypatch.setattr(database, "IDLE_SECONDS", -1.0)
    pool.tidy()
    assert (pool.idle_count, pool.open_count) == (1, 1)


def test_monitor_tells_up_and_down(pool: database.Pool, settings: Settings, cluster: Cluster) -> None:
    monitor = database.Monitor(pool, timeout=0.5)
    assert monitor.last.status == "unknown"
    seen = monitor.look()
    assert (seen.status, seen.user, seen.error) == ("up", "first", None)
    assert seen.server_version
    cluster.stop()
    try:
        seen = monitor.look()
    finally:
        cluster.start()
    assert seen.status == "down"
    assert seen.error
    assert monitor.look().status == "up"
