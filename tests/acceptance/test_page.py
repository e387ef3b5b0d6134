"""The page and its API, as a browser or curl sees them; what a browser draws is tested in tests/browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tests.running import Running, wait_until


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_page_names_every_backend_without_script(running: Running, scheme: str) -> None:
    address = running.lab.group("frontend")[0].address
    text = running.lab.get(f"{scheme}://{address}/").text
    for name in running.names("backend"):
        assert name in text


def test_instances_are_those_of_the_inventory(running: Running) -> None:
    answer = running.api("instances").json()
    assert answer["count"] == len(running.names("backend"))
    assert {item["name"] for item in answer["instances"]} == set(running.names("backend"))
    assert {item["state"] for item in answer["instances"]} == {"passing"}
    for item in answer["instances"]:
        assert item["address"] == running.lab.machine(item["name"]).address
        assert item["version"]
        assert item["database"]["status"] == "up"


def test_requests_are_spread_over_the_backends(running: Running) -> None:
    answered = {running.api("status").json()["instance"] for _ in range(40)}
    assert answered == set(running.names("backend"))


def test_status_says_how_the_instance_is(running: Running) -> None:
    answer = running.api("status").json()
    assert answer["service"] == "backend"
    assert answer["version"]
    assert answer["database"]["status"] == "up"
    assert set(answer["secrets"]) >= {"pg_service.conf", "app.json"}


def test_every_backend_is_healthy_and_has_metrics(running: Running) -> None:
    for machine in running.lab.group("backend"):
        answer = running.backend(machine, "health")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert "# TYPE" in running.backend(machine, "metrics").text


def test_a_note_is_written_listed_shown_and_deleted(running: Running) -> None:
    text = "A note from the acceptance test"
    created = running.api("notes", "POST", json={"text": text})
    assert created.status_code == 201, created.text
    number = created.json()["note"]["id"]
    try:
        assert text in [note["text"] for note in running.api("notes").json()["notes"]]
        assert text in running.lab.get(f"{running.page}/").text
    finally:
        assert running.api(f"notes/{number}", "DELETE").status_code == 204
    assert running.api(f"notes/{number}", "DELETE").status_code == 404


def test_the_api_is_described(running: Running) -> None:
    described = running.api("openapi.json")
    assert described.headers["Content-Type"] == "application/json"
    assert {"/health", "/api/status", "/api/instances", "/api/notes"} <= set(described.json()["paths"])


@pytest.mark.journal("backend@backend")
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 16_000,
        b"{" * 20_000,
        b'{"text": "\xff"}',
        b'{"text": "\\u0000"}',
        b'{"text": "\\ud800"}',
        b"\x00" * 99,
        b"",
    ],
    ids=lambda body: f"{body[:16]!r}",
)
def test_any_body_that_is_no_note_is_refused_without_a_traceback(running: Running, body: bytes) -> None:
    backends = running.names("backend")
    began = {name: running.sh(name, "date +%s.%N").strip() for name in backends}
    answer = running.api("notes", "POST", data=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["message"]
    for name in backends:
        told = running.sh(name, f"journalctl -u backend --since @{began[name]} --no-pager -o cat")
        assert "Traceback" not in told
        assert "ERROR" not in told


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": "x" * 501}, {"text": 5}, [], "text"])
def test_a_wrong_note_is_refused_in_json(running: Running, body: object) -> None:
    answer = running.api("notes", "POST", json=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"]


def test_an_unknown_path_is_json(running: Running) -> None:
    answer = running.api("nothing-here")
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == 404


def test_markup_in_a_note_is_text(running: Running) -> None:
    text = "<script>alert(1)</script>"
    number = running.api("notes", "POST", json={"text": text}).json()["note"]["id"]
    try:
        assert text not in running.lab.get(f"{running.page}/").text
    finally:
        running.api(f"notes/{number}", "DELETE")


@pytest.fixture
def greeting(running: Running) -> Iterator[str]:
    """A greeting that is put into Vault, and afterwards what was there before."""
    kv = running.lab.vault().secrets.kv.v2
    before = kv.read_secret_version(path="app", mount_point="secret", raise_on_deleted_version=True)["data"]["data"]
    kv.create_or_update_secret(path="app", mount_point="secret", secret={**before, "greeting": "Hello from a test"})
    yield "Hello from a test"
    kv.create_or_update_secret(path="app", mount_point="secret", secret=before)


@pytest.mark.journal("vault-agent@backend")
def test_a_changed_setting_shows_on_the_page_within_10_seconds(running: Running, greeting: str) -> None:
    def everywhere() -> bool:
        answers = [running.backend(machine, "api/status").json() for machine in running.lab.group("backend")]
        return all(answer["greeting"] == greeting for answer in answers)

    wait_until(everywhere, 10, "every backend has the greeting")
    wait_until(lambda: greeting in running.lab.get(f"{running.page}/").text, 2, "the page shows the greeting")


def test_the_frontends_other_paths_are_not_found(running: Running) -> None:
    for path in ("nothing", "index.php/x", ".git/config", "../etc/passwd"):
        assert requests.get(f"{running.page}/{path}", verify=str(running.lab.authority), timeout=5).status_code in (
            400,
            403,
            404,
        ), path
