"""The HTTP interface. Every answer is JSON (but /metrics), errors too, and says which instance gave it."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from importlib import resources
from typing import Any

import psycopg2
from flask import Flask, Response, g, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from werkzeug.exceptions import HTTPException

from lab_backend import __version__, database, instances, notes, secretfiles
from lab_backend.settings import Settings

log = logging.getLogger(__name__)

BODY_LIMIT = 16 * 1024
"""Bytes of a request's body: a note of the greatest length, escaped, with room."""


class Backend:
    """What the requests share. `start` is separate, since threads do not survive the fork into the worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pool = database.open_pool(settings)
        self.monitor = database.Monitor(self.pool, timeout=settings.database_deadline)
        self.replica = database.open_replica(settings)
        self.replica_monitor = database.Monitor(self.replica, timeout=settings.database_deadline, what="replica")
        self.directory = instances.Directory(settings, lambda: self.monitor.last.as_json())

    def start(self) -> None:
        """Begin to look after the database. An earlier process's complaint is not this one's."""
        secretfiles.complain(self.settings, False)
        self.monitor.start()
        self.replica_monitor.start()

    def stop(self) -> None:
        """End what start began."""
        for monitor in (self.monitor, self.replica_monitor):
            monitor.stop()
        for pool in (self.pool, self.replica):
            pool.close()


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error as JSON."""
    code = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
    response = jsonify({"error": {"status": status, "code": code, "message": message}})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def create_app(backend: Backend) -> Flask:
    """The WSGI application over a backend."""
    settings = backend.settings
    description = resources.files("lab_backend").joinpath("openapi.json").read_bytes()
    app = Flask("lab_backend", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    app.json.sort_keys = False  # type: ignore[attr-defined]
    _count(app, backend)
    _refuse(app)

    @app.get("/health")
    def health() -> Response:
        # 503 takes this instance alone out of DNS. Its database is everybody's, and a restart of that must not empty
        # DNS: 429 is what Consul calls a warning, and goes on to name.
        secrets = secretfiles.describe_all(settings)
        missing = [name for name, state in secrets.items() if not state["present"]]
        database = backend.monitor.last
        code = HTTPStatus.SERVICE_UNAVAILABLE
        if settings.drain_file is not None and settings.drain_file.exists():
            status = "draining"
        elif missing:
            status = "waiting for secrets"
        elif database.serves:
            status, code = "ok", HTTPStatus.OK
        else:
            code = HTTPStatus.TOO_MANY_REQUESTS
            status = "credentials ending" if database.status == "up" else "no database"
        response = jsonify(
            {
                "status": status,
                "instance": settings.instance,
                "version": __version__,
                "missing_secrets": missing,
                "database": database.status,
            }
        )
        response.status_code = code
        return response

    @app.get("/api/status")
    def status() -> Response:
        readable = "up" in (backend.monitor.last.status, backend.replica_monitor.last.status)
        return jsonify(
            {
                "service": "backend",
                "version": __version__,
                "instance": settings.instance,
                "address": settings.address,
                "greeting": secretfiles.greeting(settings),
                "database": {**backend.monitor.last.as_json(), "readable": readable},
                "secrets": secretfiles.describe_all(settings),
            }
        )

    @app.get("/api/instances")
    def list_instances() -> Response:
        found = backend.directory.all()
        named = sum(1 for instance in found if instance["state"] in instances.NAMED)
        return jsonify({"count": named, "instance": settings.instance, "instances": found})

    @app.get("/api/notes")
    def list_notes() -> Response:
        limit = notes.clean_limit(request.args.get("limit"))
        found, total = notes.list_notes(backend.pool, backend.replica, limit, settings.database_deadline)
        return jsonify({"notes": found, "total": total})

    @app.post("/api/notes")
    def create_note() -> tuple[Response, int]:
        text = notes.clean_text(_document())
        key = notes.clean_key(request.headers.get("Idempotency-Key"))
        note = notes.create_note(backend.pool, text, key, settings.instance, settings.database_deadline)
        return jsonify({"note": note}), HTTPStatus.CREATED

    @app.delete("/api/notes/<int:note_id>")
    def delete_note(note_id: int) -> Response:
        # PostgreSQL's bigint ends there; what lies beyond cannot exist.
        if note_id >= 2**63 or not notes.delete_note(backend.pool, note_id, settings.database_deadline):
            return error_response(HTTPStatus.NOT_FOUND, "there is no such note")
        return Response(status=HTTPStatus.NO_CONTENT)

    @app.get("/api/openapi.json")
    def openapi() -> Response:
        return Response(description, content_type="application/json")

    @app.after_request
    def sign(response: Response) -> Response:
        response.headers["X-Instance"] = settings.instance
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return app


def _document() -> object:
    """The request's JSON. Raises notes.Invalid where Flask's own answer would be that the request failed."""
    try:
        return request.get_json()
    except RecursionError:
        raise notes.Invalid("the JSON is nested too deeply") from None


def _refuse(app: Flask) -> None:
    """Every error as JSON, with the status that fits it."""

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        headers = {name: value for name, value in error.get_headers() if name == "Allow"}
        return error_response(error.code or 500, error.description or "", headers)

    @app.errorhandler(notes.Invalid)
    def invalid(error: notes.Invalid) -> Response:
        return error_response(HTTPStatus.BAD_REQUEST, str(error))

    @app.errorhandler(database.Unavailable)
    @app.errorhandler(psycopg2.OperationalError)
    @app.errorhandler(psycopg2.errors.ReadOnlySqlTransaction)
    # As while it is restored from a dump: the table comes before the rights to it.
    @app.errorhandler(psycopg2.errors.UndefinedTable)
    @app.errorhandler(psycopg2.errors.InsufficientPrivilege)
    def no_database(error: Exception) -> Response:
        log.warning("the database is not available: %s", str(error).strip())
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, "the database is not available", {"Retry-After": "1"})

    @app.errorhandler(instances.Unavailable)
    def no_consul(error: instances.Unavailable) -> Response:
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "1"})

    @app.errorhandler(Exception)
    def failed(_error: Exception) -> Response:
        log.exception("%s %s failed", request.method, request.path)
        return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the log of this instance says why")


def _count(app: Flask, backend: Backend) -> None:
    """/metrics: one process serves all requests, so its own registry is the whole truth."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    served = Counter("backend_requests", "Requests answered", ["method", "endpoint", "status"], registry=registry)
    seconds = Histogram("backend_request_seconds", "Time to answer", ["endpoint"], registry=registry)
    build = Gauge("backend_build_info", "Always 1", ["version", "instance"], registry=registry)
    build.labels(__version__, backend.settings.instance).set(1)
    pool, monitor = backend.pool, backend.monitor
    for name, text, value in (
        ("backend_database_up", "1 if the last look at the database went well", lambda: monitor.last.status == "up"),
        ("backend_database_connections", "Connections open", lambda: pool.open_count),
        ("backend_database_connections_idle", "Connections open and unused", lambda: pool.idle_count),
        ("backend_database_connections_opened", "Connections opened since the start", lambda: pool.opened_total),
        ("backend_database_connections_broken", "Connections lost since the start", lambda: pool.broken_total),
    ):
        Gauge(name, text, registry=registry).set_function(value)
    age = Gauge(
        "backend_secret_age_seconds", "Age of a secret's file; -1 if it is missing", ["file"], registry=registry
    )

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def finish(response: Response) -> Response:
        endpoint = request.endpoint or "none"
        method = request.method if request.method in {"GET", "HEAD", "POST", "DELETE", "OPTIONS"} else "other"
        served.labels(method, endpoint, str(response.status_code)).inc()
        if "began" in g:
            seconds.labels(endpoint).observe(time.perf_counter() - g.began)
        return response

    @app.get("/metrics")
    def metrics() -> Response:
        files: dict[str, dict[str, Any]] = secretfiles.describe_all(backend.settings)
        for name, state in files.items():
            age.labels(name).set(state["age_seconds"] if state["present"] else -1)
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
