"""An instance starts without its secrets, serves once they are there, and is found by its name only while it serves."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.running import Running, wait_until

pytestmark = [pytest.mark.journal("backend@backend", "nginx@backend", "patroni@database"), pytest.mark.timeout(120)]
HOST = "backend-1"
NAME = "backend.service.consul"


def ask(running: Running, path: str, method: str = "GET", **options: Any) -> requests.Response:
    """The instance's API."""
    return running.backend(running.lab.machine(HOST), path, method, timeout=10, **options)


def answer(running: Running, path: str) -> tuple[int, Any]:
    """Status and JSON of an answer, whatever they are."""
    response = ask(running, path)
    return response.status_code, response.json()


def found(running: Running) -> bool:
    """Whether DNS names the instance."""
    return running.lab.machine(HOST).address in running.attempt("control-1", f"getent ahostsv4 {NAME}").stdout


def has_database(running: Running) -> bool:
    """Whether the instance can read and write."""
    return bool(ask(running, "health").json()["database"] == "up")


def states(running: Running) -> list[tuple[str, str]]:
    """The instances that it finds, and how Consul sees each."""
    return [(item["name"], item["state"]) for item in ask(running, "api/instances").json()["instances"]]


def write_secret(running: Running, name: str, text: str) -> None:
    """Put a file in place in one step, as Vault Agent does."""
    command = "umask 027; f=/run/secrets/.new; cat > $f && chgrp backend $f && mv $f"
    running.sh(HOST, f"{command} /run/secrets/{name}", text)


def write_password(running: Running) -> str:
    """Change the password of the database's user, and tell the instance."""
    word = secrets.token_urlsafe(16)
    running.sql(f"ALTER ROLE lab_app PASSWORD '{word}'", "postgres")
    options = {
        "host": "postgresql.service.consul",
        "dbname": "lab",
        "user": "lab_app",
        "password": word,
        "sslmode": "verify-full",
        "sslrootcert": "/etc/backend/tls/ca.pem",
    }
    lines = "".join(f"{name}={value}\n" for name, value in options.items())
    write_secret(running, "pg_service.conf", f"[lab]\n{lines}target_session_attrs=read-write\n\n[lab-read]\n{lines}")
    return word


@pytest.fixture(scope="module")
def before_secrets(running: Running) -> dict[str, Any]:
    """How the instance is after the reboot, with no command given and no secrets there."""
    running.sh(HOST, "rm -f /run/secrets/*")
    status, health = wait_until(lambda: answer(running, "health"), 60, "it answers after the reboot")
    wait_until(lambda: running.sql("SELECT 1", "postgres") == "1", 60, "the database is up after the reboot")
    wait_until(lambda: not found(running), 15, "DNS does not name it")
    return {"status": status, "health": health, "notes": answer(running, "api/notes")[0]}


@pytest.fixture(scope="module")
def serving(running: Running, before_secrets: dict[str, Any]) -> str:
    """The instance has its secrets; the password."""
    assert before_secrets
    write_secret(running, "app.json", json.dumps({"greeting": "Hello from a test"}))
    word = write_password(running)
    wait_until(lambda: has_database(running), 30, "it has its database")
    return word


def test_it_waits_for_its_secrets(before_secrets: dict[str, Any]) -> None:
    assert before_secrets["status"] == 503
    assert before_secrets["health"]["status"] == "waiting for secrets"
    assert before_secrets["health"]["missing_secrets"] == ["pg_service.conf", "app.json"]
    assert before_secrets["notes"] == 503


@pytest.mark.usefixtures("serving")
def test_with_them_it_is_healthy_and_has_its_name(running: Running) -> None:
    health = ask(running, "health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    wait_until(lambda: found(running), 10, "DNS names it")
    wait_until(lambda: states(running) == [(HOST, "passing")], 10, "it finds itself")
    assert ask(running, "api/status").json()["greeting"] == "Hello from a test"


@pytest.mark.usefixtures("serving")
def test_its_certificate_is_its_own_and_plain_http_is_not_served(running: Running) -> None:
    address = running.lab.machine(HOST).address
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{address}:8443/health", timeout=5)
    assert requests.get(f"http://{address}:8443/health", timeout=5).status_code == 400


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(
    ("user", "path", "status"),
    [
        (f"{HOST}/backend", "api/status", 200),
        (f"{HOST}/consul", "health", 200),
        (f"{HOST}/consul", "api/status", 403),
        (f"{HOST}/consul", "metrics", 403),
        ("control-1/consul", "health", 403),
        ("database-1/postgresql", "health", 403),
        ("database-1/postgresql", "api/notes", 403),
        ("", "health", 403),
        ("", "api/notes", 403),
    ],
)
def test_only_those_are_served_whose_certificate_it_knows(running: Running, user: str, path: str, status: int) -> None:
    if user:
        told = ask(running, path, user=user)
    else:
        told = running.lab.get(f"https://{running.lab.machine(HOST).address}:8443/{path}")
    assert told.status_code == status, told.text
    assert told.headers["Content-Type"].startswith("application/json")


@pytest.mark.usefixtures("serving")
def test_no_other_account_reaches_gunicorn_without_nginx(running: Running) -> None:
    """As nginx's account does."""
    ask = "curl -sS -m 5 --unix-socket /run/backend/http.sock http://x/health"
    for account, served in (("www-data", True), ("nobody", False), ("consul", False)):
        done = running.attempt(HOST, f"setpriv --reuid={account} --regid=$(id -g {account}) --clear-groups {ask}")
        assert (done.returncode == 0) == served, f"{account}: {done.stdout}{done.stderr}"


@pytest.mark.usefixtures("serving")
def test_health_waits_for_nobody(running: Running) -> None:
    """More requests than it has threads, waiting for a database that is away: /health is answered at once."""
    running.sh("database-1", "systemctl stop patroni")
    try:
        wait_until(lambda: ask(running, "api/notes").status_code == 503, 15, "notes cannot be read")
        with ThreadPoolExecutor(60) as pool:
            waiting = [pool.submit(ask, running, "api/notes") for _ in range(60)]
            for _ in range(10):
                began = time.monotonic()
                assert ask(running, "health").status_code in (200, 429)
                assert time.monotonic() - began < 1
            assert {told.result().status_code for told in waiting} == {503}
    finally:
        running.sh("database-1", "systemctl start patroni")
    wait_until(lambda: has_database(running), 30, "notes can be written again")


@pytest.mark.usefixtures("serving")
def test_a_note_is_a_row(running: Running) -> None:
    created = ask(running, "api/notes", "POST", json={"text": "a row"})
    assert created.status_code == 201, created.text
    number = created.json()["note"]["id"]
    assert running.sql(f"SELECT text FROM notes WHERE id = {number}") == "a row"
    assert number in [note["id"] for note in ask(running, "api/notes").json()["notes"]]
    assert ask(running, f"api/notes/{number}", "DELETE").status_code == 204
    assert running.sql(f"SELECT count(*) FROM notes WHERE id = {number}") == "0"


def test_a_changed_password_needs_no_restart(running: Running, serving: str) -> None:
    pid = running.sh(HOST, "systemctl show -P MainPID backend")
    assert write_password(running) != serving
    running.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'lab_app'", "postgres")
    wait_until(lambda: ask(running, "api/notes").status_code == 200, 15, "it has logged in with the new one")
    assert running.sh(HOST, "systemctl show -P MainPID backend") == pid


@pytest.mark.usefixtures("serving")
def test_a_stopped_database_leaves_the_instance_healthy(running: Running) -> None:
    running.sh("database-1", "systemctl stop patroni")
    try:
        wait_until(lambda: ask(running, "api/notes").status_code == 503, 15, "notes cannot be read")
        # Consul says it of the instance, and goes on to name it.
        wait_until(lambda: states(running) == [(HOST, "warning")], 10, "Consul warns")
        assert ask(running, "health").json()["status"] == "no database"
        assert ask(running, "api/instances").json()["count"] == 1
        assert found(running)
    finally:
        running.sh("database-1", "systemctl start patroni")
    wait_until(lambda: has_database(running), 30, "notes can be written again")
    wait_until(lambda: states(running) == [(HOST, "passing")], 10, "Consul warns no more")


@pytest.mark.usefixtures("serving")
def test_a_hung_database_keeps_nobody_waiting(running: Running) -> None:
    """Whoever asks has an answer within 5 s, more at a time than it has connections; then all goes on at once."""
    unit = "patroni.service"
    pid = running.sh(HOST, "systemctl show -P MainPID backend")

    def one(number: int) -> tuple[float, int]:
        time.sleep(number / 10)
        began = time.monotonic()
        response = ask(running, "api/notes")
        assert response.headers["Content-Type"].startswith("application/json")
        return time.monotonic() - began, response.status_code

    running.sh("database-1", f"systemctl kill -s STOP {unit}")
    try:
        with ThreadPoolExecutor(80) as pool:
            answers = list(pool.map(one, range(80)))
    finally:
        running.sh("database-1", f"systemctl kill -s CONT {unit}")
    wait_until(lambda: ask(running, "api/notes").status_code == 200, 2, "notes can be read again")
    assert {code for _, code in answers} == {503}
    assert max(took for took, _ in answers) < 5
    assert answers[-1][0] < 0.5, "who asks after that is told at once"
    assert running.sh(HOST, "systemctl show -P MainPID backend") == pid


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize("unit", ["backend", "nginx"])
def test_a_killed_part_returns(running: Running, kill: Callable[[str, str], None], unit: str) -> None:
    kill(HOST, unit)
    wait_until(lambda: ask(running, "health").status_code == 200, 15, "it serves again")


@pytest.mark.usefixtures("serving")
def test_it_leaves_dns_before_it_stops(running: Running) -> None:
    wait_until(lambda: found(running), 10, "DNS names it")
    running.sh(HOST, "systemctl stop --no-block backend")
    try:
        wait_until(
            lambda: ask(running, "health").json()["status"] == "draining", 3, "it says that it is about to stop", 0.05
        )
        wait_until(lambda: not found(running), 5, "DNS no longer names it")
    finally:
        running.sh(HOST, "systemctl start backend")
    wait_until(lambda: found(running), 15, "DNS names it again")


@pytest.mark.usefixtures("serving")
def test_the_process_holds_no_secret(running: Running, host: Callable[[str], Any]) -> None:
    unit = running.sh(HOST, "systemctl show -P User backend").strip()
    assert unit == "backend"
    word = write_password(running)
    token = running.lab.secrets()[f"consul_token/backend-read/{HOST}"]
    shown = running.sh(
        HOST, "systemctl show backend; cat /proc/$(systemctl show -P MainPID backend)/environ | tr '\\0' ' '"
    )
    assert word not in shown
    assert token not in shown
    for path in ("tls/backend.key", "consul_token"):
        assert host(HOST).file(f"/etc/backend/{path}").mode & 0o007 == 0, path


def test_it_says_that_its_login_is_refused_and_takes_that_back(running: Running, serving: str) -> None:
    """By a file, for whoever brings its secrets; a stopped instance says nothing."""
    assert serving
    says = "/run/secrets-refused/backend"

    def complains() -> bool:
        return running.attempt(HOST, f"test -e {says}").returncode == 0

    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'lab_app'"
    assert not complains()
    running.sql(f"ALTER ROLE lab_app NOLOGIN; {end}", "postgres")
    try:
        wait_until(complains, 3, "it complains")
        running.sh(HOST, "systemctl restart backend")
        wait_until(complains, 10, "it complains again after a restart")
        running.sh(HOST, "systemctl stop backend")
        assert not complains()
        running.sh(HOST, "systemctl start backend")
        wait_until(complains, 10, "it complains again")
    finally:
        running.sql("ALTER ROLE lab_app LOGIN", "postgres")
    wait_until(lambda: not complains(), 5, "it takes that back")
    wait_until(lambda: has_database(running), 10, "it has its database")


def test_only_its_port_is_open(running: Running, listening: Callable[[str], set[str]]) -> None:
    assert {place.rpartition(":")[2] for place in listening(HOST)} == {"22", "8301", "8443"}
    assert running.sh(HOST, "systemctl is-enabled backend").strip() == "enabled"


@pytest.mark.parametrize("unit", ["backend.service", "nginx.service"])
def test_the_units_are_hardened(exposure: Callable[[str, str], float], unit: str) -> None:
    assert exposure(HOST, unit) <= 2


def test_wrong_options_are_refused_with_a_sentence(refuses: Callable[..., str]) -> None:
    assert "backend_threads must be at least 8 more than backend_pool_size" in refuses(backend_pool_size=185)
    assert "value of backend_log_level must be one of" in refuses(backend_log_level="LOUD")
