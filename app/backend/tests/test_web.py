"""The HTTP interface."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Cluster, free_port
from flask.testing import FlaskClient

from lab_backend import __version__, database, instances, web
from lab_backend.settings import Settings, from_environment


@pytest.fixture
def backend(settings: Settings) -> Iterator[web.Backend]:
    it = web.Backend(settings)
    yield it
    it.stop()


@pytest.fixture
def client(backend: web.Backend) -> FlaskClient:
    return web.create_app(backend).test_client()


def test_health(client: FlaskClient, backend: web.Backend) -> None:
    assert client.get("/health").status_code == 429, "nobody has looked at the database yet"
    backend.monitor.look()
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "ok")
    assert answer.headers["X-Instance"] == "backend-1"


@pytest.mark.parametrize("name", ["pg_service.conf", "app.json"])
def test_health_without_a_secret(client: FlaskClient, settings: Settings, name: str) -> None:
    (settings.secrets / name).unlink()
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()["missing_secrets"]) == (503, [name])


def test_health_while_draining(client: FlaskClient, settings: Settings) -> None:
    assert settings.drain_file
    settings.drain_file.touch()
    assert client.get("/health").status_code == 503
    assert client.get("/api/notes").status_code == 200


def test_health_only_warns_of_the_database(client: FlaskClient, backend: web.Backend, cluster: Cluster) -> None:
    """Consul takes 429 for a warning, which takes nobody out of DNS."""
    cluster.sql(f"ALTER ROLE first VALID UNTIL '{time.strftime('%F %T+00', time.gmtime(time.time() + 60))}'")
    backend.monitor.look()
    assert client.get("/health").status_code == 200
    cluster.sql(f"ALTER ROLE first VALID UNTIL '{time.strftime('%F %T+00', time.gmtime(time.time() + 10))}'")
    backend.monitor.look()
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()["status"]) == (429, "credentials ending")
    cluster.stop()
    try:
        assert backend.monitor.look().status == "down"
        answer = client.get("/health")
        assert (answer.status_code, answer.get_json()["status"]) == (429, "no database")
        assert client.get("/api/status").status_code == 200
    finally:
        cluster.start()


def test_status(client: FlaskClient, backend: web.Backend) -> None:
    backend.monitor.look()
    status = client.get("/api/status").get_json()
    assert (status["service"], status["version"], status["instance"]) == ("backend", __version__, "backend-1")
    told = status["database"]
    assert (told["status"], told["user"], told["server"], told["readable"]) == ("up", "first", "127.0.0.1", True)
    assert status["secrets"]["pg_service.conf"]["present"] is True
    assert status["greeting"] == "hello"
    assert "one" not in json.dumps(status["database"])


@pytest.mark.parametrize("content", ["", "[]", '{"greeting": 1}', "{}"])
def test_status_without_a_greeting(client: FlaskClient, settings: Settings, content: str) -> None:
    settings.app_file.write_text(content)
    assert client.get("/api/status").get_json()["greeting"] is None


def test_notes_are_written_listed_and_deleted(client: FlaskClient) -> None:
    made = client.post("/api/notes", json={"text": "  grüß\r\ngott  "})
    assert made.status_code == 201
    note = made.get_json()["note"]
    assert (note["text"], note["instance"]) == ("grüß\ngott", "backend-1")
    listed = client.get("/api/notes").get_json()
    assert listed == {"notes": [note], "total": 1}
    assert client.delete(f"/api/notes/{note['id']}").status_code == 204
    assert client.delete(f"/api/notes/{note['id']}").status_code == 404
    assert client.get("/api/notes").get_json() == {"notes": [], "total": 0}


def test_notes_are_read_of_a_replica_while_the_primary_is_away(
    client: FlaskClient, backend: web.Backend, settings: Settings, cluster: Cluster
) -> None:
    note = client.post("/api/notes", json={"text": "before"}).get_json()["note"]
    cluster.write_service(settings.service_file, "first", "one", writer=free_port())
    backend.pool.close()
    assert client.get("/api/notes").get_json()["notes"] == [note]
    assert client.post("/api/notes", json={"text": "meanwhile"}).status_code == 503
    began = time.monotonic()
    assert client.get("/api/notes").get_json()["notes"] == [note]
    assert time.monotonic() - began < 0.5, "it is known to be away"
    assert (backend.monitor.look().status, backend.replica_monitor.look().status) == ("down", "up")
    assert client.get("/api/status").get_json()["database"]["readable"] is True
    assert client.get("/health").get_json()["status"] == "no database"
    cluster.write_service(settings.service_file, "first", "one")
    assert backend.monitor.look().status == "up"
    assert client.post("/api/notes", json={"text": "after"}).status_code == 201


def test_newest_first_and_limited(client: FlaskClient) -> None:
    for text in "abc":
        client.post("/api/notes", json={"text": text})
    listed = client.get("/api/notes?limit=2").get_json()
    assert ([note["text"] for note in listed["notes"]], listed["total"]) == (["c", "b"], 3)


def test_same_key_is_the_same_note(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = client.post("/api/notes", json={"text": "once"}, headers=headers).get_json()
    assert client.post("/api/notes", json={"text": "once"}, headers=headers).get_json() == first
    assert client.get("/api/notes").get_json()["total"] == 1


def test_rows_outlive_the_user_who_wrote_them(client: FlaskClient, settings: Settings, cluster: Cluster) -> None:
    note = client.post("/api/notes", json={"text": "stays"}).get_json()["note"]
    cluster.create_user("second", "two")
    cluster.write_service(settings.service_file, "second", "two")
    cluster.revoke_user("first")
    assert client.get("/api/notes").get_json()["notes"] == [note]
    assert client.delete(f"/api/notes/{note['id']}").status_code == 204


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "string"),
        ([], "object"),
        ("text", "object"),
        ({"text": None}, "string"),
        ({"text": " \n"}, "empty"),
        ({"text": "x" * 501}, "500"),
        ({"text": "a\x00b"}, "control"),
        ({"text": "\ud800"}, "control"),
        ({"text": "a", "id": 1}, "unknown"),
    ],
)
def test_notes_that_are_none(client: FlaskClient, body: Any, word: str) -> None:
    answer = client.post("/api/notes", json=body)
    assert answer.status_code == 400
    assert word in answer.get_json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[" * 16_000,
        b'{"text":' * 2_000,
        b'{"text": ' + b"[" * 990 + b"]" * 990 + b"}",
        b'{"text": ' + b"9" * 5_000 + b"}",
        b'{"text": NaN}',
        b'{"text": "\xff"}',
        b'{"text": "\xed\xa0\x80"}',
        b'{"text": "\\u0000"}',
        b'{"text": "\\ud800"}',
        b'{"\\ud800": "a"}',
        b'{"text": "a", "text": {}}',
        b'{"text": "a"} {',
        b"\x00" * 100,
        '{"text": "a\u2028'.encode(),
        "[".encode("utf-16") * 900,
    ],
    ids=lambda body: f"{body[:16]!r}",
)
def test_any_other_body_is_refused(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/api/notes", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"]
    assert client.get("/api/notes").get_json()["total"] == 0


def test_longest_note_fits(client: FlaskClient) -> None:
    assert client.post("/api/notes", json={"text": "\U0001f600" * 500}).status_code == 201


@pytest.mark.parametrize("key", ["", "x", "0" * 31])
def test_keys_that_are_none(client: FlaskClient, key: str) -> None:
    assert client.post("/api/notes", json={"text": "a"}, headers={"Idempotency-Key": key}).status_code == 400


@pytest.mark.parametrize("limit", ["0", "-1", "x", "201", "99999", "²"])
def test_limits_that_are_none(client: FlaskClient, limit: str) -> None:
    assert client.get("/api/notes", query_string={"limit": limit}).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", "/api/notes/x", {}, 404),
        ("DELETE", f"/api/notes/{2**63}", {}, 404),
        ("DELETE", f"/api/notes/{'9' * 5000}", {}, 404),
        ("DELETE", "/api/notes/%00", {}, 404),
        ("DELETE", "/api/notes/-1", {}, 404),
        ("PUT", "/api/notes", {}, 405),
        ("POST", "/api/notes", {"data": "{", "content_type": "application/json"}, 400),
        ("POST", "/api/notes", {"data": "text=a"}, 415),
        ("POST", "/api/notes", {"data": '"' + "x" * 20000 + '"', "content_type": "application/json"}, 413),
    ],
)
def test_errors_are_json(client: FlaskClient, method: str, path: str, options: dict[str, Any], status: int) -> None:
    answer = client.open(path, method=method, **options)
    assert answer.status_code == status
    assert answer.get_json()["error"]["status"] == status
    assert answer.headers["X-Instance"] == "backend-1"
    assert (answer.status_code == 405) == ("Allow" in answer.headers)


def test_unexpected_error_is_json_and_tells_nothing(backend: web.Backend) -> None:
    app = web.create_app(backend)
    app.add_url_rule("/bang", view_func=lambda: 1 // 0)
    answer = app.test_client().get("/bang")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert answer.get_json()["error"]["code"] == "internal_server_error"


def test_no_database_is_503(client: FlaskClient, settings: Settings) -> None:
    settings.service_file.write_text("[lab]\nhost=127.0.0.1\nport=1\nuser=a\npassword=geheim\n")
    object.__setattr__(settings, "database_deadline", 0.3)
    answer = client.get("/api/notes")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "geheim" not in answer.text


def test_a_server_that_only_reads_is_503_for_who_writes(client: FlaskClient, backend: web.Backend) -> None:
    """As one that stands by is."""
    backend.pool.run(lambda cursor, _: cursor.execute("SET default_transaction_read_only = on"), 5)
    answer = client.post("/api/notes", json={"text": "a word"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert client.get("/api/notes").status_code == 200


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ("ALTER TABLE notes RENAME TO restored", "ALTER TABLE restored RENAME TO notes"),
        ("REVOKE ALL ON notes FROM lab_rw", "GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO lab_rw"),
    ],
)
def test_a_database_that_is_being_restored_is_503(
    client: FlaskClient, backend: web.Backend, cluster: Cluster, lost: str, found: str
) -> None:
    """First its table is not there, and then who may use it."""
    cluster.sql(lost)
    try:
        for method in ("GET", "POST"):
            answer = client.open("/api/notes", method=method, json={"text": "a word"})
            assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "1")
        assert backend.pool.write_error, "status says that no note can be written"
    finally:
        cluster.sql(found)
    assert client.get("/api/notes").status_code == 200
    time.sleep(database.EDGE)  # for so long the last refusal is told of
    assert client.post("/api/notes", json={"text": "a word"}).status_code == 201
    assert backend.pool.write_error is None


def test_metrics(client: FlaskClient, backend: web.Backend) -> None:
    backend.monitor.look()
    client.get("/api/notes")
    text = client.get("/metrics").text
    assert 'backend_requests_total{endpoint="list_notes",method="GET",status="200"} 1.0' in text
    assert "backend_database_up 1.0" in text
    assert 'backend_secret_age_seconds{file="app.json"}' in text


def entry(name: str, status: str, *more: dict[str, Any]) -> dict[str, Any]:
    return {
        "Node": {"Node": name, "Address": "10.0.0.1"},
        "Service": {"Address": "", "Port": 8443, "Meta": {"instance": name, "version": "1.2.3"}},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}, {"CheckID": "health", "Status": status}, *more],
    }


def test_instances(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Health:
        def service(self, *, service: str, passing: bool) -> tuple[int, list[dict[str, Any]]]:
            assert (service, passing) == ("backend", False)
            maintenance = {"CheckID": "_service_maintenance:backend", "Status": "critical"}
            return 1, [
                entry("backend-3", "critical"),
                entry("backend-1", "passing"),
                entry("backend-2", "passing", maintenance),
                entry("backend-4", "passing", {"CheckID": "database", "Status": "warning"}),
            ]

    class Consul:
        def __init__(self, **_: Any) -> None:
            self.health = Health()
            self.http = type("Http", (), {"session": type("Session", (), {"close": lambda _self: None})()})()

    monkeypatch.setattr(instances.consul, "Consul", Consul)
    answer = client.get("/api/instances").get_json()
    assert (answer["count"], answer["instance"]) == (2, "backend-1"), "those that DNS names"
    shown = [(one["name"], one["address"], one["version"], one["state"]) for one in answer["instances"]]
    assert shown == [
        ("backend-1", "10.0.0.1", "1.2.3", "passing"),
        ("backend-2", "10.0.0.1", "1.2.3", "maintenance"),
        ("backend-3", "10.0.0.1", "1.2.3", "critical"),
        ("backend-4", "10.0.0.1", "1.2.3", "warning"),
    ]
    assert answer["instances"][0]["database"]["status"] == "unknown"


@pytest.mark.parametrize(("ago", "told"), [(1.0, "no room"), (9.0, None)])
def test_instances_tell_of_a_note_that_was_refused_a_moment_ago(
    settings: Settings, ago: float, told: str | None
) -> None:
    directory = instances.Directory(settings, lambda: {"write_error": "no room", "write_error_seconds_ago": ago})
    seen = directory._database_of({"name": settings.instance, "state": "passing"})
    assert seen["write_error"] == told


def test_instances_without_consul(backend: web.Backend, settings: Settings) -> None:
    object.__setattr__(settings, "consul_port", 1)
    answer = web.create_app(backend).test_client().get("/api/instances")
    assert answer.status_code == 503
    assert "Consul" in answer.get_json()["error"]["message"]


def test_a_hung_consul_is_asked_once_whoever_looks(settings: Settings) -> None:
    """Of 40 who look, one waits for it, and the others for a moment; what came of it is remembered."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as hung:
        object.__setattr__(settings, "consul_port", hung.getsockname()[1])
        directory = instances.Directory(settings, lambda: {})

        def look() -> float:
            began = time.monotonic()
            with pytest.raises(instances.Unavailable):
                directory.all()
            return time.monotonic() - began

        with ThreadPoolExecutor(40) as pool:
            first = sorted(pool.map(lambda _: look(), range(40)))
            assert first[-2] < instances.PATIENCE + 0.4, "all but one wait for a moment only"
            assert first[-1] < 2.5
            assert max(pool.map(lambda _: look(), range(40))) < 0.4, "it is remembered that there was no answer"
        hung.setblocking(False)
        assert hung.accept()
        with pytest.raises(BlockingIOError):
            hung.accept()


def test_instances_without_the_token(backend: web.Backend, settings: Settings) -> None:
    object.__setattr__(settings, "credentials", settings.secrets)
    assert web.create_app(backend).test_client().get("/api/instances").status_code == 503


def test_settings_come_from_the_environment() -> None:
    it = from_environment({"BACKEND_INSTANCE": "b", "BACKEND_POOL_SIZE": "2", "CREDENTIALS_DIRECTORY": "/run/c"})
    assert (it.instance, it.pool_size, str(it.consul_token_file)) == ("b", 2, "/run/c/consul_token")
    with pytest.raises(ValueError, match="invalid literal"):
        from_environment({"BACKEND_POOL_SIZE": "many"})
