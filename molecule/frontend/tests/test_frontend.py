"""The page and its API: what the backends say, without those that are dead, and something sensible with none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.running import Running, Traffic, wait_until

pytestmark = [pytest.mark.journal("nginx@frontend", "php*-fpm@frontend", "backend@backend"), pytest.mark.timeout(120)]
HOST = "frontend-1"
BACKENDS = ("backend-1", "backend-2")


def page(running: Running, scheme: str = "https", **options: Any) -> requests.Response:
    """The page."""
    address = running.lab.machine(HOST).address
    return requests.get(f"{scheme}://{address}/", verify=str(running.lab.authority), timeout=10, **options)


@pytest.fixture(scope="module", autouse=True)
def served(running: Running) -> None:
    """The page is back after the reboot of all machines, with no command given."""
    wait_until(lambda: running.count() == len(BACKENDS), 60, "the API counts the backends")


@pytest.fixture
def none(running: Running) -> Iterator[None]:
    """No backend serves."""
    for name in BACKENDS:
        running.sh(name, "systemctl kill --signal KILL backend; systemctl stop backend")
    yield
    for name in BACKENDS:
        running.sh(name, "systemctl start backend")
    wait_until(lambda: running.count() == len(BACKENDS), 30, "the backends are back")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_page_names_every_backend_without_script(running: Running, scheme: str) -> None:
    answer = page(running, scheme)
    assert answer.status_code == 200
    assert "Hello from a test" in answer.text
    for name in BACKENDS:
        assert name in answer.text


def test_the_api_is_spread_over_the_backends(running: Running) -> None:
    assert {running.api("status").json()["instance"] for _ in range(40)} == set(BACKENDS)


def test_the_page_tells_that_the_database_is_away(running: Running) -> None:
    assert 'data-problem="database"' in page(running).text.partition(">")[2][:60]
    # Each backend waits 5 s for its database.
    answer = running.api("notes", timeout=20)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "the database is not available"


def test_a_backend_that_dies_fails_no_request(running: Running, kill: Callable[[str, str], None]) -> None:
    with Traffic(running, count=600, rate=40, seconds=15) as traffic:
        kill("backend-1", "backend")
        wait_until(lambda: running.count() == len(BACKENDS), 15, "it is back")
        traffic.stop()
    traffic.require_no_failure(least=20)


@pytest.mark.usefixtures("none")
def test_without_any_backend_the_api_says_so_in_json_and_the_page_in_words(running: Running) -> None:
    def refused() -> bool:
        answer = running.api("status")
        assert answer.status_code == 503, answer.text
        return bool(answer.json()["error"]["message"] == "no backend instance answers")

    wait_until(refused, 10, "the API says that none answers")
    answer = page(running)
    assert answer.status_code == 200
    assert "No backend instance answers" in answer.text
    assert requests.get(f"http://{running.lab.machine(HOST).address}/health", timeout=5).status_code == 200


def test_the_page_has_a_limit_that_it_tells_in_words(running: Running) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: page(running, "http"), range(600)))
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "Too many requests" in refused.text
    assert "PHP does not answer" not in refused.text
    assert refused.headers["Content-Type"].startswith("text/html")
    # Who waits for a moment is served again.
    wait_until(lambda: page(running).status_code == 200, 10, "the page is served")


def test_without_php_a_page_says_so(running: Running) -> None:
    unit = full_name(running, "php")
    running.sh(HOST, f"systemctl stop {unit}")
    try:
        answer = page(running)
    finally:
        running.sh(HOST, f"systemctl start {unit}")
    assert answer.status_code in (502, 503, 504)
    assert "PHP does not answer" in answer.text
    assert "Too many requests" not in answer.text


def test_another_sites_page_may_not_change_anything(running: Running) -> None:
    answer = running.api("notes", "POST", json={"text": "x"}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "forbidden"


def test_a_browser_is_told_to_be_careful(running: Running) -> None:
    headers = page(running).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "nginx"
    assert "X-Powered-By" not in headers


@pytest.mark.parametrize("path", ["nothing", "index.php", "src/State.php", ".git/config", "%2e%2e/src/html.php"])
def test_nothing_else_is_served(running: Running, path: str) -> None:
    answer = running.lab.get(f"{running.page}/{path}")
    assert answer.status_code in (400, 404)
    assert "<?php" not in answer.text


def test_it_has_its_name(running: Running) -> None:
    def found() -> str:
        return running.sh("control-1", "getent ahostsv4 frontend.service.consul")

    wait_until(lambda: running.lab.machine(HOST).address in found(), 15, "DNS names it")


@pytest.mark.parametrize("unit", ["nginx", "php"])
def test_a_killed_part_returns(running: Running, kill: Callable[[str, str], None], unit: str) -> None:
    kill(HOST, full_name(running, unit))
    wait_until(lambda: page(running).status_code == 200, 10, "the page is served again")


def full_name(running: Running, unit: str) -> str:
    """A unit's whole name; PHP's holds its version."""
    return running.sh(HOST, f"systemctl list-units --plain --no-legend '{unit}*.service' | cut -d' ' -f1").split()[0]


def test_only_its_ports_are_open(listening: Callable[[str], set[str]]) -> None:
    assert {place.rpartition(":")[2] for place in listening(HOST)} == {"22", "80", "443", "8301"}


@pytest.mark.parametrize("path", ["/etc/nginx/tls/nginx.key", "/etc/consul.d/frontend.json"])
def test_its_secrets_are_not_for_everybody(host: Callable[[str], Any], path: str) -> None:
    assert oct(host(HOST).file(path).mode) == "0o640"


@pytest.mark.parametrize("unit", ["nginx", "php"])
def test_the_units_are_hardened(running: Running, exposure: Callable[[str, str], float], unit: str) -> None:
    assert exposure(HOST, full_name(running, unit)) <= 2


def test_wrong_options_are_refused_with_a_sentence(refuses: Callable[..., str]) -> None:
    assert "frontend_rate must be at least 1" in refuses(frontend_rate=0)
    assert "frontend_consul_token must be a UUID" in refuses(frontend_consul_token="secret")
    assert "argument 'frontend_workers' is of type str" in refuses(frontend_workers="many")
