"""Connections to PostgreSQL whose credentials change under way.

libpq reads its service file at every connect, so a new connection always has the newest credentials. What is left to do
is to let go of the old ones in time, which psycopg2's own pool does not: it freezes its arguments, raises as soon as it
is exhausted, and closes what lies idle. The pool here

* replaces a connection that was opened with an older service file, once a new one could be opened in its place;
* waits, with a deadline, when all connections are busy or the server is away;
* runs the work once more on another connection when the one in use broke (server restarted, credentials revoked), so
  the work must be one statement that may safely run twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg2
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


class Unavailable(Exception):
    """The database cannot be used right now; the text says why and holds no secret."""


@dataclass(eq=False)
class _Slot:
    connection: Connection
    stamp: Hashable
    used_at: float = field(default_factory=time.monotonic)


class Pool:
    """At most `size` connections, shared by threads; `waiters` threads at most wait for one."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        stamp: Callable[[], Hashable | None],
        size: int = 6,
        waiters: int = 32,
    ) -> None:
        self._connect = connect
        self._stamp = stamp
        self._size = size
        self._waiters = waiters
        self._condition = threading.Condition()
        self._idle: list[_Slot] = []
        self._open = 0
        self._waiting = 0
        self._failure = ""
        self._failed_at = float("-inf")
        self._failed_stamp: Hashable | None = None
        self.opened_total = 0
        self.broken_total = 0

    @property
    def open_count(self) -> int:
        """Connections that are open or being opened."""
        return self._open

    @property
    def idle_count(self) -> int:
        """Open connections that nobody uses."""
        return len(self._idle)

    def run(self, work: Callable[[Cursor, int], Result], timeout: float) -> Result:
        """Give `work` a cursor (autocommit) and the number of this attempt, from 0, and return what it returns.

        Raises Unavailable when no connection could be had within `timeout` seconds, or broke every time; other errors
        of psycopg2 pass through.
        """
        deadline = time.monotonic() + timeout
        attempt = 0
        while True:
            slot = self._take(deadline)
            try:
                with slot.connection.cursor() as cursor:
                    result = work(cursor, attempt)
            except psycopg2.Error as error:
                lost = slot.connection.closed != 0
                # A session may outlive its dropped role; all it can do then is to be refused.
                refused = isinstance(error, psycopg2.errors.InsufficientPrivilege) and slot.stamp != self._stamp()
                if not (lost or refused):
                    self._give_back(slot)
                    raise
                self._discard(slot)
                attempt += 1
                if attempt >= ATTEMPTS or time.monotonic() >= deadline:
                    raise Unavailable(_sentence(error)) from error
                log.info("connection lost, trying on another one: %s", _sentence(error))
            except BaseException:
                self._give_back(slot)
                raise
            else:
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

    def _take(self, deadline: float) -> _Slot:
        while True:
            stamp = self._stamp()
            with self._condition:
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
            # From here on one place is ours: with an old connection in it, or none.
            if slot and not may_open:
                return slot
            try:
                fresh = _Slot(self._connect(), stamp)
            except psycopg2.Error as error:
                with self._condition:
                    self._failure, self._failed_at, self._failed_stamp = _sentence(error), time.monotonic(), stamp
                    if slot is None:
                        self._open -= 1
                log.warning("cannot connect: %s", _sentence(error))
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
            if slot:
                log.info("connection replaced: the service file has changed")
                _close([slot])
            return fresh

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

    def _discard(self, broken: _Slot) -> None:
        """Close a broken connection, and the idle ones that are as old: what broke it has broken them as well."""
        with self._condition:
            self.broken_total += 1
            slots = [slot for slot in self._idle if slot.stamp == broken.stamp]
            self._idle = [slot for slot in self._idle if slot.stamp != broken.stamp]
            self._open -= len(slots) + 1
            self._condition.notify_all()
        _close([broken, *slots])


@dataclass(frozen=True)
class Probe:
    """What the last look at the database has shown."""

    status: str = "unknown"
    user: str | None = None
    server_version: str | None = None
    error: str | None = None
    checked_at: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For /api/status; the age is in seconds."""
        age = None if self.checked_at is None else round(time.monotonic() - self.checked_at, 1)
        return {
            "status": self.status,
            "user": self.user,
            "server_version": self.server_version,
            "error": self.error,
            "checked_seconds_ago": age,
        }


class Monitor:
    """Looks at the database once a second, so that asking for its state never has to wait for it."""

    def __init__(self, pool: Pool, interval: float = 1.0, timeout: float = 2.0) -> None:
        self._pool = pool
        self._interval = interval
        self._timeout = timeout
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.last = Probe()

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

        def work(cursor: Cursor, _attempt: int) -> tuple[str, str]:
            cursor.execute("SELECT current_user::text, current_setting('server_version')")
            row = cursor.fetchone()
            assert row is not None  # noqa: S101 a SELECT without FROM has one row
            return row[0], row[1]

        try:
            user, version = self._pool.run(work, self._timeout)
        except (Unavailable, psycopg2.Error) as error:
            self.last = Probe("down", error=_sentence(error), checked_at=time.monotonic())
        else:
            self.last = Probe("up", user, version, checked_at=time.monotonic())
        return self.last

    def _loop(self) -> None:
        while not self._stop.is_set():
            before = self.last.status
            try:
                now = self.look()
                self._pool.tidy()
            except Exception:
                log.exception("the look at the database failed")
            else:
                if now.status != before:
                    log.info("database is %s%s", now.status, f": {now.error}" if now.error else "")
            self._stop.wait(self._interval)


def open_pool(settings: Settings) -> Pool:
    """The pool for the service that the settings name; opens nothing yet."""

    def connect() -> Connection:
        connection = psycopg2.connect(
            service=settings.database_service,
            application_name=settings.instance,
            connect_timeout=2,
            keepalives=1,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=2,
            tcp_user_timeout=4000,
            options="-c statement_timeout=4000",
        )
        connection.autocommit = True
        return connection

    return Pool(
        connect,
        lambda: secretfiles.stamp(settings.service_file),
        size=settings.pool_size,
        waiters=settings.pool_waiters,
    )


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
