"""The pool: credentials that change, connections that break, a server that goes away."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator

import psycopg2
import pytest
from conftest import Cluster
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from lab_backend import database, notes
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


def seconds(pool: database.Pool, timeout: float) -> tuple[float, str]:
    """How long a request took that was to fail, and what it was told."""
    began = time.monotonic()
    with pytest.raises(database.Unavailable) as told:
        pool.run(who, timeout)
    return time.monotonic() - began, str(told.value)


def test_a_hung_server_is_waited_for_no_longer_than_a_request_may(pool: database.Pool, cluster: Cluster) -> None:
    assert pool.run(who, 1.0) == "first"
    with cluster.hung():
        took, said = seconds(pool, 3.0)
        assert 2.9 < took < 3.4, said
        # It has been away for so long already that nobody waits any more.
        took, said = seconds(pool, 3.0)
        assert took < 0.2, said
    assert pool.run(who, 2.0, patience=float("inf")) == "first"
    assert pool.run(who, 2.0) == "first"


def test_a_server_that_hangs_for_less_fails_nobody(pool: database.Pool, cluster: Cluster) -> None:
    with Load(pool, 6) as load, cluster.hung():
        time.sleep(2.5)
    assert load.failures == []


class Cable:
    """Between a client and the server, until it is cut: then nothing passes, and nobody is told."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.whole = threading.Event()
        self.whole.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._server)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.whole.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            target.close()


def test_a_write_whose_answer_is_lost_is_there_once(settings: Settings, cluster: Cluster) -> None:
    """The server has done it, and the client, who knows nothing of that, does it again on another connection."""
    cable = Cable(cluster.port)
    settings.service_file.write_text(settings.service_file.read_text().replace(str(cluster.port), str(cable.port)))
    pool = database.open_pool(settings)
    assert pool.run(who, 2.0) == "first"
    cable.whole.clear()
    mend = threading.Timer(2.6, cable.whole.set)
    mend.start()
    note = notes.create_note(pool, "once", uuid.uuid4(), "backend-1", 4.7)
    mend.join()
    time.sleep(0.3)  # for the first one to arrive as well
    assert cluster.sql("SELECT id, text FROM notes") == [(note["id"], "once")]
    assert pool.broken_total > 0
    pool.close()


def test_a_refused_login_is_said_and_taken_back(pool: database.Pool, settings: Settings, cluster: Cluster) -> None:
    assert settings.complaint_file
    assert pool.run(who, 1.0) == "first"
    cluster.revoke_user("first")
    with pytest.raises(database.Unavailable, match="authentication failed"):
        pool.run(who, 0.6)
    assert settings.complaint_file.exists()
    cluster.create_user("second", "two")
    cluster.write_service(settings.service_file, "second", "two")
    assert pool.run(who, 2.0) == "second"
    assert not settings.complaint_file.exists()


def test_a_server_that_is_away_is_no_reason_to_complain(
    pool: database.Pool, settings: Settings, cluster: Cluster
) -> None:
    assert settings.complaint_file
    cluster.stop()
    try:
        seconds(pool, 0.6)
    finally:
        cluster.start()
    assert not settings.complaint_file.exists()


def test_a_session_that_outlives_its_role_is_let_go(pool: database.Pool, settings: Settings, cluster: Cluster) -> None:
    """Dropped by hand: the session stays, and may do nothing."""
    assert settings.complaint_file
    assert pool.run(who, 1.0) == "first"
    cluster.sql('DROP ROLE "first"')
    late = threading.Timer(1.0, cluster.create_user, ("first", "one"))
    late.start()
    found, total = notes.list_notes(pool, pool, 10, 4.0)
    late.join()
    assert (found, total) == ([], 0)
    assert pool.opened_total == 2
    assert not settings.complaint_file.exists()


def test_what_the_role_really_may_not_do_is_told_at_once(pool: database.Pool) -> None:
    pool.run(who, 1.0)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        pool.run(lambda cursor, _: cursor.execute("TRUNCATE notes"), 3.0)
    assert pool.opened_total == 2, "a new connection was asked as well, and no third"


def test_a_name_that_is_not_given_leads_to_the_last_address(
    pool: database.Pool, settings: Settings, cluster: Cluster
) -> None:
    """Consul names a server a moment after it is back."""
    assert pool.run(who, 1.0) == "first"
    pool.close()
    settings.service_file.write_text(settings.service_file.read_text().replace("127.0.0.1", "nowhere.invalid"))
    assert pool.run(who, 2.0) == "first"
    with pytest.raises(database.Unavailable, match="could not translate"):
        database.open_pool(settings).run(who, 0.5)


def test_a_name_that_nobody_answers_leads_to_the_last_address(
    pool: database.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consul's agent hangs, and a connection has to be made anew."""
    assert pool.run(who, 1.0) == "first"
    pool.close()
    settings.service_file.write_text(settings.service_file.read_text().replace("127.0.0.1", "127.0.0.2"))
    on = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: on.wait(5))
    try:
        assert pool.run(who, 1.5) == "first"
    finally:
        on.set()


def test_the_second_name_is_asked_where_the_first_leads_nowhere(pool: database.Pool, settings: Settings) -> None:
    """The old primary's name, when another machine has taken over and nobody has said so yet."""
    text = settings.service_file.read_text()
    settings.service_file.write_text(text.replace("host=127.0.0.1", "host=nowhere.invalid,127.0.0.1"))
    assert pool.run(who, 1.0) == "first"
    pool.close()
    settings.service_file.write_text(text.replace("host=127.0.0.1", "host=nowhere.invalid,::2"))
    with pytest.raises(database.Unavailable):
        pool.run(who, 0.5)


def test_the_monitor_knows_when_credentials_end(pool: database.Pool, cluster: Cluster) -> None:
    monitor = database.Monitor(pool, timeout=1.0)
    assert monitor.look().as_json()["credentials_end_seconds"] is None
    for left, ending in ((65, False), (22, False), (15, True), (65, False)):
        cluster.sql(f"ALTER ROLE first VALID UNTIL '{time.strftime('%F %T+00', time.gmtime(time.time() + left))}'")
        seen = monitor.look()
        told = seen.as_json()
        assert abs(told["credentials_end_seconds"] - (left - database.TAKEN_BACK)) < 2
        assert (told["credentials_ending"], seen.serves) == (ending, not ending), left
    cluster.sql("ALTER ROLE first VALID UNTIL 'infinity'")
    assert monitor.look().as_json()["credentials_end_seconds"] is None


def test_the_monitor_does_not_wait_for_credentials_that_are_refused(pool: database.Pool, cluster: Cluster) -> None:
    monitor = database.Monitor(pool, interval=0.2, timeout=3.0)
    monitor.start()
    try:
        deadline = time.monotonic() + 3
        while monitor.last.status != "up" and time.monotonic() < deadline:
            time.sleep(0.05)
        cluster.revoke_user("first")
        began = time.monotonic()
        while monitor.last.status == "up" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert time.monotonic() - began < 1.5
        assert "refuses" in str(monitor.last.error)
    finally:
        monitor.stop()


@pytest.mark.parametrize("lines", [0, 4, 5], ids=["empty", "no user", "no password"])
def test_half_a_service_file_is_said_and_the_open_connection_serves(
    pool: database.Pool, settings: Settings, cluster: Cluster, lines: int
) -> None:
    assert settings.complaint_file
    assert pool.run(who, 1.0) == "first"
    settings.service_file.write_text("\n".join(settings.service_file.read_text().splitlines()[:lines]))
    assert pool.run(who, 1.0) == "first"
    assert settings.complaint_file.exists()
    cluster.write_service(settings.service_file, "first", "one")
    deadline = time.monotonic() + 3
    while settings.complaint_file.exists() and time.monotonic() < deadline:
        assert pool.run(who, 1.0) == "first"
        time.sleep(0.05)
    assert not settings.complaint_file.exists()


def test_the_monitor_says_that_the_server_refuses_to_write(pool: database.Pool, cluster: Cluster) -> None:
    monitor = database.Monitor(pool)

    def write() -> None:
        notes.create_note(pool, "a word", uuid.uuid4(), "backend-1", 5)

    write()
    assert monitor.look().status == "up"
    assert monitor.last.as_json()["write_error"] is None
    # As on a server that stands by, or one without room.
    pool.run(lambda cursor, _: cursor.execute("SET default_transaction_read_only = on"), 5)
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        write()
    said = monitor.last.as_json()
    assert (said["status"], said["write_error"]) == ("up", "cannot execute INSERT in a read-only transaction")
    assert 0 <= said["write_error_seconds_ago"] < 2
    pool.run(lambda cursor, _: cursor.execute("SET default_transaction_read_only = off"), 5)
    write()
    assert monitor.last.as_json()["write_error"], "a server at the edge of its room writes, and refuses the next one"
    time.sleep(database.EDGE)  # for so long the last refusal is told of
    write()
    assert monitor.last.as_json()["write_error"] is None
