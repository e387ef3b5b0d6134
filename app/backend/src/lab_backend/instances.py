"""All instances of this service: who they are, from Consul, and how each one sees the database, asked of each."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import consul
import requests
import urllib3

from lab_backend.settings import Settings

REMEMBER = 0.5
"""Seconds for which an answer, or the lack of one, is used again, so that many viewers cost no more than one."""
LAST = 5.0
"""Seconds for which it stands in while somebody asks for a new one."""
PATIENCE = 1.0
"""Seconds that a viewer waits for what another one asks, where nothing can stand in."""
DEADLINE = 1.0
"""Seconds in which the instances must say how they see the database."""
RECENT = 8.0
"""Seconds for which a note that could not be written is told of; `make status` takes as long."""
STATES = ("passing", "warning", "critical", "maintenance")
"""A service is as well as the worst of its checks; the worst comes last."""
NAMED = ("passing", "warning")
"""Those that DNS names. With a warning an instance answers, though not everything."""
_UNKNOWN = {
    "status": "unknown",
    "user": None,
    "error": None,
    "credentials_end_seconds": None,
    "credentials_ending": False,
    "write_error": None,
}


class Unavailable(Exception):
    """Consul did not tell; the text says why."""


def state_of(checks: list[dict[str, Any]]) -> str:
    """The worst state among a service's and its node's checks; maintenance is a critical check of a known name."""
    worst = 0
    for check in checks:
        if str(check.get("CheckID", "")).startswith(("_service_maintenance", "_node_maintenance")):
            return "maintenance"
        status = check.get("Status")
        worst = max(worst, STATES.index(status) if status in STATES else STATES.index("critical"))
    return STATES[worst]


def describe(entry: dict[str, Any]) -> dict[str, Any]:
    """One instance as /api/instances shows it, out of an entry of Consul's health API."""
    service, node = entry["Service"], entry["Node"]
    meta = service.get("Meta") or {}
    return {
        "name": meta.get("instance") or node["Node"],
        "address": service.get("Address") or node["Address"],
        "port": service["Port"],
        "version": meta.get("version"),
        "state": state_of(entry.get("Checks") or []),
        "database": dict(_UNKNOWN),
    }


@dataclass(frozen=True)
class _Outcome:
    """What asking has brought: the instances, or why there are none."""

    instances: list[dict[str, Any]]
    failure: str = ""
    at: float = field(default_factory=time.monotonic)


class Directory:
    """Asks Consul and the instances, and remembers for a moment what came of it."""

    def __init__(self, settings: Settings, own_database: Callable[[], dict[str, Any]]) -> None:
        self._settings = settings
        self._own_database = own_database
        self._condition = threading.Condition()
        self._asking = False
        self._outcome: _Outcome | None = None
        self._workers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="instances")
        self._http = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED",
            ca_certs=_text(settings.ca_file),
            cert_file=_text(settings.certificate_file),
            key_file=_text(settings.key_file),
            assert_hostname=settings.name,
            server_hostname=settings.name,
            timeout=urllib3.Timeout(connect=0.5, read=1.0),
            retries=False,
            maxsize=2,
        )

    def all(self) -> list[dict[str, Any]]:
        """All registered instances, by name. Raises Unavailable.

        One asks; others take what was said last, and wait for him for a moment only. So whatever is slow holds one
        thread, however many look.
        """
        outcome = self._remembered()
        if outcome is None:
            try:
                outcome = self._ask()
            finally:
                with self._condition:
                    self._asking, self._outcome = False, outcome
                    self._condition.notify_all()
        if outcome.failure:
            raise Unavailable(outcome.failure)
        return outcome.instances

    def _remembered(self) -> _Outcome | None:
        """What was said last, or None for the one who is to ask now. Raises Unavailable past PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        with self._condition:
            while True:
                now = time.monotonic()
                if self._outcome and now - self._outcome.at <= (LAST if self._asking else REMEMBER):
                    return self._outcome
                if not self._asking:
                    self._asking = True
                    return None
                if now >= deadline:
                    raise Unavailable("the local Consul agent has not answered yet")
                self._condition.wait(deadline - now)

    def _ask(self) -> _Outcome:
        try:
            found = self._registered()
        except Unavailable as error:
            return _Outcome([], str(error))
        asked = [self._workers.submit(self._database_of, instance) for instance in found]
        done, late = wait(asked, DEADLINE)
        for future in late:
            future.cancel()
        silent = {**_UNKNOWN, "error": "the instance did not answer in time"}
        return _Outcome(
            [
                {**instance, "database": future.result() if future in done else dict(silent)}
                for instance, future in zip(found, asked, strict=True)
            ]
        )

    def _registered(self) -> list[dict[str, Any]]:
        file = self._settings.consul_token_file
        try:
            token = file.read_text(encoding="ascii").strip() if file else None
            client = consul.Consul(
                host=self._settings.consul_host,
                port=self._settings.consul_port,
                scheme="http",
                token=token,
                connections_timeout=1.5,
            )
            _index, entries = client.health.service(service=self._settings.consul_service, passing=False)
        except OSError as error:
            # Among them all that requests raises; its texts are long and name addresses, the kind is enough.
            reason = "no answer" if isinstance(error, requests.RequestException) else error.strerror
            raise Unavailable(f"the local Consul agent cannot be asked: {reason}") from error
        except consul.ConsulException as error:
            raise Unavailable(f"the local Consul agent does not tell: {error}") from error
        finally:
            if "client" in locals():
                client.http.session.close()
        return sorted((describe(entry) for entry in entries), key=lambda instance: str(instance["name"]))

    def _database_of(self, instance: dict[str, Any]) -> dict[str, Any]:
        """How an instance sees the database; a critical one is not asked, it would not answer."""
        if instance["name"] == self._settings.instance:
            seen = self._own_database()
        elif instance["state"] in NAMED:
            try:
                answer = self._http.request("GET", f"https://{instance['address']}:{instance['port']}/api/status")
                seen = json.loads(answer.data)["database"]
            except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as error:
                return {**_UNKNOWN, "error": f"the instance did not answer ({type(error).__name__})"}
        else:
            return dict(_UNKNOWN)
        told = {name: seen.get(name, otherwise) for name, otherwise in _UNKNOWN.items()}
        if (seen.get("write_error_seconds_ago") or 0) > RECENT:
            told["write_error"] = None
        return told


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
