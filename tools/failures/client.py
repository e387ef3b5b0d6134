"""A client of the page's API that keeps its rate whatever the answers take, and tells of each request.

    echo SETTINGS | python -m tools.failures.client

A request's time counts from the moment at which it was due, so that nothing that waits is left out. Each write has a
text of its own, by which it is found in the database. It is a process of its own, since the one that breaks the lab is
busy. It ends after ``count`` requests, or as soon as its standard input does.

Existing tools (wrk, hey, k6, Locust) count answers, and keep neither what each write was nor what became of it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import requests

TIMEOUT = (5, 15)
"""Seconds to connect, and between two parts of an answer: more than anybody waits."""


@dataclass(frozen=True)
class Settings:
    """What the client is to do."""

    page: str
    authority: str
    """Path of the certificate of the CA that it trusts."""
    name: str
    """Begins the text of each note."""
    rate: float
    count: int
    kinds: tuple[str, ...] = ("read", "write", "status")
    """In turn."""


@dataclass(frozen=True)
class Request:
    """A request and its answer."""

    number: int
    kind: str
    at: float
    """When it was due, by this computer's monotonic clock."""
    seconds: float
    code: int
    """0 without an answer."""
    json: bool = True
    problem: str = ""
    instance: str = ""
    version: str = ""

    @property
    def good(self) -> bool:
        """Whether it was answered as it should be."""
        return 200 <= self.code < 300

    @property
    def end(self) -> float:
        """When it was answered."""
        return self.at + self.seconds


class Client:
    """Sends requests, each from a thread of its own with a connection that it keeps."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kept = threading.local()
        self.printing = threading.Lock()

    def session(self) -> requests.Session:
        """The connection of the thread that asks."""
        if not hasattr(self.kept, "session"):
            self.kept.session = requests.Session()
            self.kept.session.trust_env = False
            self.kept.session.verify = self.settings.authority
        session: requests.Session = self.kept.session
        return session

    def ask(self, kind: str, number: int) -> requests.Response:
        """Send one request."""
        session, api = self.session(), f"{self.settings.page}/api"
        if kind == "write":
            return session.post(f"{api}/notes", json={"text": f"{self.settings.name} {number}"}, timeout=TIMEOUT)
        return session.get(f"{api}/notes?limit=10" if kind == "read" else f"{api}/status", timeout=TIMEOUT)

    def send(self, number: int, due: float) -> None:
        """Send one request and print what came of it."""
        kind = self.settings.kinds[number % len(self.settings.kinds)]
        try:
            answer = self.ask(kind, number)
        except requests.RequestException as error:
            request = Request(
                number, kind, due, time.monotonic() - due, 0, False, f"{type(error).__name__}: {error}"[:300]
            )
        else:
            seconds = time.monotonic() - due
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            version = str(answer.json().get("version", "")) if kind == "status" and is_json and answer.ok else ""
            problem = "" if answer.ok else " ".join(answer.text.split())[:300]
            instance = answer.headers.get("X-Instance", "")
            request = Request(number, kind, due, seconds, answer.status_code, is_json, problem, instance, version)
        with self.printing:
            print(json.dumps(asdict(request)), flush=True)

    def run(self, enough: threading.Event) -> None:
        """Send all, until there is enough."""
        settings = self.settings
        begin = time.monotonic()
        # As many threads as requests can wait at once.
        with ThreadPoolExecutor(int(settings.rate * (sum(TIMEOUT) + 1))) as pool:
            for number in range(settings.count):
                due = begin + number / settings.rate
                if enough.wait(max(0.0, due - time.monotonic())):
                    return
                pool.submit(self.send, number, due)


def main() -> int:
    """Read the settings, and send."""
    values = json.loads(sys.stdin.readline())
    settings = Settings(**{**values, "kinds": tuple(values["kinds"])})
    enough = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        enough.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    Client(settings).run(enough)
    return 0


if __name__ == "__main__":
    sys.exit(main())
