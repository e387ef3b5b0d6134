"""All instances of this service: who they are, from Consul, and how each one sees the database, asked of each."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import consul
import requests
import urllib3

from lab_backend.settings import Settings

REMEMBER = 0.5
"""Seconds for which an answer is used again, so that many viewers cost no more than one."""
STATES = ("passing", "warning", "critical", "maintenance")
"""A service is as well as the worst of its checks; the worst comes last."""
_UNKNOWN = {"status": "unknown", "user": None, "error": None}


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


class Directory:
    """Asks Consul and the instances, and remembers the answer for a moment."""

    def __init__(self, settings: Settings, own_database: Callable[[], dict[str, Any]]) -> None:
        self._settings = settings
        self._own_database = own_database
        self._lock = threading.Lock()
        self._answer: list[dict[str, Any]] | None = None
        self._answered_at = float("-inf")
        self._workers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="instances")
        self._http = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED",
            ca_certs=str(settings.ca_file) if settings.ca_file else None,
            timeout=urllib3.Timeout(connect=0.5, read=1.0),
            retries=False,
            maxsize=2,
        )

    def all(self) -> list[dict[str, Any]]:
        """All registered instances, by name. Raises Unavailable."""
        # One asks, the others wait for his answer or take the last one if it is recent.
        with self._lock:
            if self._answer is None or time.monotonic() - self._answered_at > REMEMBER:
                try:
                    found = self._registered()
                except Unavailable:
                    self._answer = None
                    raise
                databases = self._workers.map(self._database_of, found)
                self._answer = [
                    {**instance, "database": database} for instance, database in zip(found, databases, strict=True)
                ]
                self._answered_at = time.monotonic()
            return self._answer

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
        elif instance["state"] in ("passing", "warning"):
            try:
                answer = self._http.request("GET", f"https://{instance['address']}:{instance['port']}/api/status")
                seen = json.loads(answer.data)["database"]
            except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as error:
                return {**_UNKNOWN, "error": f"the instance did not answer ({type(error).__name__})"}
        else:
            return dict(_UNKNOWN)
        return {name: seen.get(name) for name in _UNKNOWN}
