"""Connections to PostgreSQL whose credentials change under way.

libpq reads its service file at every connect, so a new connection always has the newest credentials. What is left to do
is to let go of the old ones in time, which psycopg2's own pool does not: it freezes its arguments, raises as soon as it
is exhausted, and closes what lies idle. The pool here

* replaces a connection that was opened with an older service file, once a new one could be opened in its place;
* waits, with a deadline, when all connections are busy or the server is away, and no more once the server has been away
  for as long as anybody would have waited;
* waits for the server itself with a deadline too: one that hangs, or whose network is cut, says nothing for ever;
* runs the work once more on another connection when the one in use broke (server restarted, credentials revoked), so
  the work must be one statement that may safely run twice;
* complains, for its machine to act on, when the server refuses the newest credentials.

A second pool leads to a replica, where there is one: `read` goes there while the server that also writes is away.
"""

from __future__ import annotations

import contextlib
import logging
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, set_wait_callback
from psycopg2.extensions import connection as Connection  # noqa: N812 psycopg2 writes its classes in lower case
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from lab_backend import secretfiles
from lab_backend.settings import Settings

log = logging.getLogger(__name__)
Result = TypeVar("Result")

CONNECT_PAUSE = 0.25
"""Seconds between two tries to connect after one failed."""
IDLE_SECONDS = 60.0
"""A connection beyond the first that nobody used for so long is closed."""
ATTEMPTS = 4
"""How often the work is tried on connections that break under it."""
SILENCE = 2.0
"""Seconds in which the server must answer a connection or a statement; then another connection is tried."""
NAMED = 0.5
"""Seconds in which somebody must say where a name leads; then the last address is taken."""
TAKEN_BACK = 5.0
"""Seconds by which who lends credentials may take them back before PostgreSQL lets them end. Vault does so."""
EDGE = 0.75
"""Seconds for which a refused write is told of though others work: a server without room may refuse one of five."""
_REFUSED = re.compile(
    "FATAL: +(password authentication failed|no pg_hba.conf entry|pg_hba.conf rejects"
    '|role ".*" (does not exist|is not permitted to log in))'
    "|no password supplied|definition of service .* not found|syntax error in service file"
)
"""What PostgreSQL says with SQLSTATE 28P01 and 28000, as libpq tells no code of a connection that was refused; and what
libpq says itself where half of the service file is missing."""
_ROLE_MISSING = (
    psycopg2.errors.InsufficientPrivilege,
    psycopg2.errors.UndefinedObject,
    psycopg2.errors.UndefinedTable,
)
"""What a session is told whose role has been dropped: that role is gone, or what it might read and write."""


_UNABLE = (psycopg2.OperationalError, psycopg2.InternalError, *_ROLE_MISSING)
"""The server cannot, whoever asks: it has no room, only reads, or lacks the table. Others are about what was asked."""


class Unavailable(Exception):
    """The database cannot be used right now; the text says why and holds no secret."""


class Silent(psycopg2.OperationalError):  # type: ignore[misc]
    """The server did not answer in time. psycopg2 closes the connection."""


class _Patience(threading.local):
    """When this thread stops waiting for the server."""

    deadline = float("inf")


_patience = _Patience()


@contextlib.contextmanager
def _until(deadline: float) -> Iterator[None]:
    """Wait for the server until then at most, and SILENCE at most."""
    _patience.deadline = min(deadline, time.monotonic() + SILENCE)
    try:
        yield
    finally:
        _patience.deadline = float("inf")


def _wait_for_server(connection: Connection) -> None:
    """What psycopg2 calls to wait: for a new connection, and for the answer to a statement."""
    while (state := connection.poll()) != POLL_OK:
        left = _patience.deadline - time.monotonic()
        if left <= 0:
            raise Silent("the server did not answer in time")
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        poll.poll(None if left == float("inf") else left * 1000)


set_wait_callback(_wait_for_server)


@dataclass(eq=False)
class _Slot:
    connection: Connection
    stamp: Hashable
    used_at: float = field(default_factory=time.monotonic)
    opened_at: float = field(default_factory=time.monotonic)


class Pool:
    """At most `size` connections, shared by threads; `waiters` threads at most wait for one."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        stamp: Callable[[], Hashable | None],
        size: int = 6,
        waiters: int = 32,
        patience: float = 5.0,
        complain: Callable[[bool], None] = lambda _refused: None,
    ) -> None:
        self._connect = connect
        self._stamp = stamp
        self._size = size
        self._waiters = waiters
        self._patience = patience
        self._complain = complain
        self._away_since: float | None = None
        self._condition = threading.Condition()
        self._idle: list[_Slot] = []
        self._open = 0
        self._waiting = 0
        self._failure = ""
        self._failed_at = float("-inf")
        self._failed_stamp: Hashable | None = None
        self.refused = False
        """Whether the server refused the newest credentials when they were last tried."""
        self.write_error: tuple[float, str] | None = None
        """When the server last could not write, and why; None once it has written after `EDGE` seconds without."""
        self.opened_total = 0
        self.broken_total = 0

    @property
    def open_count(self) -> int:
        """Connections that are open or being opened."""
        return self._open

    @property
    def away(self) -> bool:
        """Whether the server did not answer when it was last asked."""
        return self._away_since is not None

    @property
    def idle_count(self) -> int:
        """Open connections that nobody uses."""
        return len(self._idle)

    def run(
        self,
        work: Callable[[Cursor, int], Result],
        timeout: float,
        *,
        patience: float | None = None,
        writes: bool = False,
    ) -> Result:
        """Give `work` a cursor (autocommit) and the number of this attempt, from 0, and return what it returns.

        Work that `writes` says whether the server can: it may have no room, and answer what only reads.

        Raises Unavailable when no connection could be had within `timeout` seconds, or broke every time, and at once
        when the server has been away for `patience` seconds already (without it, the pool's own); other errors of
        psycopg2 pass through.
        """
        patience = self._patience if patience is None else patience
        began = time.monotonic()
        deadline = began + timeout
        attempt = 0
        while True:
            slot = self._take(deadline, patience)
            tried = time.monotonic()
            try:
                with _until(deadline), slot.connection.cursor() as cursor:
                    result = work(cursor, attempt)
            except psycopg2.Error as error:
                lost = slot.connection.closed != 0
                # A session may outlive its dropped role; all it can do then is to be refused. A new one tells.
                dropped = isinstance(error, _ROLE_MISSING) and slot.opened_at < began
                if not (lost or dropped):
                    if writes and isinstance(error, _UNABLE):
                        self.write_error = (time.monotonic(), _sentence(error))
                    self._give_back(slot)
                    raise
                self._discard(slot, tried)
                attempt += 1
                if attempt >= ATTEMPTS or time.monotonic() >= deadline:
                    raise Unavailable(_sentence(error)) from error
                log.info("connection lost, trying on another one: %s", _sentence(error))
            except BaseException:
                self._give_back(slot)
                raise
            else:
                self._away_since = None
                if writes and (unable := self.write_error) and time.monotonic() - unable[0] > EDGE:
                    self.write_error = None
                self._give_back(slot)
                return result

    def tidy(self) -> None:
        """Close what lay idle for long, but keep one."""
        horizon = time.monotonic() - IDLE_SECONDS
        with self._condition:
            surplus = [slot for slot in self._idle[:-1] if slot.used_at < horizon]
            self._idle = [slot for slot in self._idle if slot not in surplus]
            self._open -= len(surplus)
        _close(surplus)

    def close(self) -> None:
        """Close all idle connections."""
        with self._condition:
            slots, self._idle = self._idle, []
            self._open -= len(slots)
        _close(slots)

    def _take(self, deadline: float, patience: float) -> _Slot:
        while True:
            stamp = self._stamp()
            with self._condition:
                if self._away_since and time.monotonic() - self._away_since >= patience:
                    raise Unavailable(self._failure or "the server does not answer")
                slot = self._pop(stamp)
                if slot and slot.stamp == stamp:
                    return slot
                pause = self._pause(stamp)
                may_open = stamp is not None and pause <= 0
                if slot is None:
                    if may_open and self._open < self._size:
                        self._open += 1
                    else:
                        self._wait(deadline, stamp, pause)
                        continue
                if may_open and self._failure:
                    # One after the other, until it goes well.
                    self._failed_at, self._failed_stamp = time.monotonic(), stamp
            # From here on one place is ours: with an old connection in it, or none.
            if slot and not may_open:
                return slot
            tried = time.monotonic()
            try:
                with _until(deadline):
                    fresh = _Slot(self._connect(), stamp)
            except psycopg2.Error as error:
                with self._condition:
                    news = _sentence(error) != self._failure
                    self._failure, self._failed_at, self._failed_stamp = _sentence(error), time.monotonic(), stamp
                    self._away_since = self._away_since or tried
                    if slot is None:
                        self._open -= 1
                log.log(logging.WARNING if news else logging.DEBUG, "cannot connect: %s", _sentence(error))
                # What is said of older credentials than the newest is no reason to complain.
                if stamp == self._stamp() and _REFUSED.search(str(error)):
                    self._judge(True)
                if slot:  # the old one may well work until the new credentials do
                    return slot
                continue
            except BaseException:
                with self._condition:
                    self._open -= 1
                    self._condition.notify()
                _close([slot] if slot else [])
                raise
            with self._condition:
                self._failure = ""
                self.opened_total += 1
                self._condition.notify_all()
            self._judge(False)
            if slot:
                log.info("connection replaced: the service file has changed")
                _close([slot])
            return fresh

    def _judge(self, refused: bool) -> None:
        """Say it where it has changed."""
        if refused != self.refused:
            self.refused = refused
            self._complain(refused)

    def _pop(self, stamp: Hashable | None) -> _Slot | None:
        """An idle connection: the current and last used first, else an older one."""
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index].stamp == stamp:
                return self._idle.pop(index)
        return self._idle.pop() if self._idle else None

    def _pause(self, stamp: Hashable | None) -> float:
        """Seconds until the next try to connect is due: new credentials may be tried at once."""
        if not self._failure or stamp != self._failed_stamp:
            return 0.0
        return self._failed_at + CONNECT_PAUSE - time.monotonic()

    def _wait(self, deadline: float, stamp: Hashable | None, pause: float) -> None:
        """Wait until something may have changed; raises Unavailable past the deadline or in too long a queue."""
        left = deadline - time.monotonic()
        if left <= 0 or self._waiting >= self._waiters:
            if stamp is None:
                raise Unavailable("the database's credentials are not there yet")
            raise Unavailable(self._failure or "all connections to the database are busy")
        self._waiting += 1
        try:
            # The service file's arrival and the end of a pause wake nobody: look for oneself.
            self._condition.wait(min(left, pause if pause > 0 else CONNECT_PAUSE))
        finally:
            self._waiting -= 1

    def _give_back(self, slot: _Slot) -> None:
        slot.used_at = time.monotonic()
        with self._condition:
            if slot.connection.closed:
                self._open -= 1
            else:
                self._idle.append(slot)
            self._condition.notify()

    def _discard(self, broken: _Slot, tried: float) -> None:
        """Close a broken connection, and the idle ones that are as old: what broke it has broken them as well."""
        with self._condition:
            self.broken_total += 1
            self._away_since = self._away_since or tried
            slots = [slot for slot in self._idle if slot.stamp == broken.stamp]
            self._idle = [slot for slot in self._idle if slot.stamp != broken.stamp]
            self._open -= len(slots) + 1
            self._condition.notify_all()
        _close([broken, *slots])


def read(pool: Pool, replica: Pool, work: Callable[[Cursor, int], Result], timeout: float) -> Result:
    """What `work` reads: of a replica while the pool's server is away, which may lack its last moment.

    Raises what Pool.run does.
    """
    deadline = time.monotonic() + timeout
    try:
        return pool.run(work, min(SILENCE, timeout), patience=SILENCE)
    except Unavailable:
        # One that is only busy is waited for.
        return (replica if pool.away else pool).run(work, deadline - time.monotonic())


@dataclass(frozen=True)
class Probe:
    """What the last look at the database has shown."""

    status: str = "unknown"
    user: str | None = None
    server: str | None = None
    """The address of the machine that answered."""
    server_version: str | None = None
    error: str | None = None
    checked_at: float | None = None
    credentials_end_at: float | None = None
    """When they end, unless they are renewed; None where they do not."""
    credentials_ending: bool = False
    """Whether that should have been done by now."""
    write_error: tuple[float, str] | None = None
    """When the server last could not write, and why; None where it can again."""

    @property
    def serves(self) -> bool:
        """Whether all is well, and will be for a while."""
        return self.status == "up" and not self.credentials_ending

    def as_json(self) -> dict[str, Any]:
        """For /api/status; times are in seconds from now."""
        now = time.monotonic()
        end, (unable_at, unable) = self.credentials_end_at, self.write_error or (None, None)
        return {
            "status": self.status,
            "user": self.user,
            "server": self.server,
            "server_version": self.server_version,
            "error": self.error,
            "checked_seconds_ago": None if self.checked_at is None else round(now - self.checked_at, 1),
            "credentials_end_seconds": None if end is None else round(max(0.0, end - now), 1),
            "credentials_ending": self.credentials_ending,
            "write_error": unable,
            "write_error_seconds_ago": None if unable_at is None else round(now - unable_at, 1),
        }


class Monitor:
    """Looks at the database twice a second, so that asking for its state never has to wait for it.

    A look waits as long as a request does, so that the database is down when requests fail, and not before.
    """

    def __init__(self, pool: Pool, interval: float = 0.5, timeout: float = 5.0, what: str = "database") -> None:
        self._pool = pool
        self._what = what
        self._interval = interval
        self._timeout = timeout
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last = Probe()
        self._longest: tuple[str, float] = ("", 0.0)

    @property
    def last(self) -> Probe:
        """What the last look has shown. A look that goes on is not waited for where credentials are refused."""
        last = replace(self._last, write_error=self._pool.write_error)
        if self._pool.refused and last.checked_at and time.monotonic() - last.checked_at > 2 * self._interval:
            return replace(last, status="down", error="the server refuses the credentials", user=None)
        return last

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="database-monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def look(self) -> Probe:
        """Look now."""

        def work(cursor: Cursor, _attempt: int) -> tuple[str, str | None, str, float | None]:
            cursor.execute(
                "SELECT rolname::text, host(inet_server_addr()), current_setting('server_version'),"
                " CASE WHEN isfinite(rolvaliduntil)"
                " THEN extract(epoch FROM rolvaliduntil - clock_timestamp())::float8 END"
                " FROM pg_roles WHERE rolname = current_user"
            )
            row = cursor.fetchone()
            assert row is not None  # noqa: S101 without its role, current_user is an error
            return row[0], row[1], row[2], row[3]

        try:
            user, server, version, left = self._pool.run(work, self._timeout, patience=float("inf"))
        except (Unavailable, psycopg2.Error) as error:
            self._last = Probe("down", error=_sentence(error), checked_at=time.monotonic())
        else:
            now = time.monotonic()
            self._last = Probe("up", user, server, version, None, now, *self._end(user, left, now))
        return self._last

    def _end(self, user: str, left: float | None, now: float) -> tuple[float | None, bool]:
        """When a user's credentials end, and whether they should have been renewed: a fifth of their life is left."""
        if left is None:
            return None, False
        left -= TAKEN_BACK
        before, longest = self._longest
        longest = max(left, longest) if user == before else left
        self._longest = (user, longest)
        return now + left, left < longest / 5

    def _loop(self) -> None:
        while not self._stop.is_set():
            before = self._last.status
            try:
                now = self.look()
                self._pool.tidy()
            except Exception:
                log.exception("the look at the database failed")
            else:
                if now.status != before:
                    log.info("%s is %s%s", self._what, now.status, f": {now.error}" if now.error else "")
            self._stop.wait(self._interval)


def open_pool(settings: Settings) -> Pool:
    """The pool for the server that also writes; opens nothing yet."""
    return _open(settings, settings.database_service, lambda refused: secretfiles.complain(settings, refused))


def open_replica(settings: Settings) -> Pool:
    """The pool for a replica. It does not complain, since its credentials are the other one's."""
    return _open(settings, settings.database_read_service, lambda _refused: None)


def _open(settings: Settings, service: str, complain: Callable[[bool], None]) -> Pool:
    last: dict[str, str] = {}

    def connect() -> Connection:
        nonlocal last
        known = last if last and not _named(last["host"]) else {}
        try:
            connection = _connect(settings, service, **known)
        except psycopg2.OperationalError as error:
            # Names are given only to what Consul has seen well: that takes a second longer than to be well again.
            if not last or not all("could not translate host name" in line for line in str(error).splitlines()):
                raise
            connection = _connect(settings, service, **last)
        connection.autocommit = True
        address = _address(connection)
        last = {"host": connection.info.host, "hostaddr": address} if address else {}
        return connection

    return Pool(
        connect,
        lambda: secretfiles.stamp(settings.service_file),
        size=settings.pool_size,
        waiters=settings.pool_waiters,
        patience=settings.database_deadline,
        complain=complain,
    )


def _connect(settings: Settings, service: str, **more: str) -> Connection:
    return psycopg2.connect(
        service=service,
        application_name=settings.instance,
        keepalives=1,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=2,
        tcp_user_timeout=4000,
        options="-c statement_timeout=4000",
        **more,
    )


_names = ThreadPoolExecutor(1, "database-names")


def _named(host: str) -> bool:
    """Whether somebody says where a name leads, or that it leads nowhere: libpq waits for that without a deadline."""
    answer = _names.submit(socket.getaddrinfo, host, None)
    try:
        answer.result(NAMED)
    except TimeoutError:
        answer.cancel()
        return False
    except OSError:
        return True
    return True


def _address(connection: Connection) -> str:
    """Where a connection leads to; empty where that is no address."""
    with socket.socket(fileno=connection.fileno()) as peer:
        try:
            return str(peer.getpeername()[0]) if peer.family != socket.AF_UNIX else ""
        finally:
            peer.detach()  # it is libpq's


def _sentence(error: Exception) -> str:
    """The first line of what libpq says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _close(slots: list[_Slot]) -> None:
    for slot in slots:
        try:
            slot.connection.close()
        except psycopg2.Error as error:
            log.debug("closing: %s", _sentence(error))
