"""Database credentials from ``secret/db`` (mode kv): what an operator puts is what the backend uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import Running, Traffic, wait_until

SERVICE_FILE = "/run/secrets/pg_service.conf"
MODE = ("-e", "backend_db_credentials=kv")
pytestmark = pytest.mark.usefixtures("kv_mode")


@pytest.fixture(scope="module")
def kv_mode(running: Running) -> Iterator[None]:
    """The lab with the other mode, and back."""
    running.playbook("site.yml", *MODE).require()
    running.wait_healthy(30)
    yield
    running.playbook("site.yml").require()
    running.wait_healthy(30)


def put(running: Running, **secret: str) -> dict[str, str]:
    """``vault kv put secret/db ...``, which replaces the whole secret; what was there before."""
    kv = running.lab.vault().secrets.kv.v2
    before: dict[str, str] = kv.read_secret_version(path="db", mount_point="secret", raise_on_deleted_version=True)[
        "data"
    ]["data"]
    kv.create_or_update_secret(path="db", mount_point="secret", secret=secret)
    return before


def password_in_file(running: Running, name: str) -> str:
    lines = running.sh(name, f"cat {SERVICE_FILE}").splitlines()
    return next(line.partition("=")[2].strip("'\" ") for line in lines if line.startswith("password="))


@pytest.mark.late(6)
@pytest.mark.timeout(600)
@pytest.mark.journal("vault-agent@backend", "backend@backend")
def test_the_mode_changes_and_no_dynamic_user_stays_in_use(running: Running) -> None:
    def dynamic() -> list[str]:
        users = running.sql("select distinct usename from pg_stat_activity where datname = 'lab'").split()
        return [user for user in users if user.startswith("v-")]

    wait_until(lambda: not dynamic(), 60, "no dynamic user is connected")
    assert running.api("notes").status_code == 200


@pytest.mark.late(6)
@pytest.mark.timeout(120)
@pytest.mark.journal("vault-agent@backend")
def test_a_put_password_is_in_the_service_file_within_10_seconds(running: Running) -> None:
    """As with ``vault kv put secret/db password=supersecret``: the missing username falls back to the default."""
    before = put(running, password="supersecret")
    try:
        for name in running.names("backend"):
            wait_until(lambda name=name: password_in_file(running, name) == "supersecret", 10, f"{name} has it")  # type: ignore[misc]
            assert "user=" in running.sh(name, f"cat {SERVICE_FILE}")
    finally:
        put(running, **before)
    for name in running.names("backend"):
        wait_until(
            lambda name=name: password_in_file(running, name) == before["password"],  # type: ignore[misc]
            10,
            f"{name} has the old one again",
        )
    wait_until(lambda: running.api("notes").status_code == 200, 10, "the notes can be read")


@pytest.mark.late(6)
@pytest.mark.timeout(300)
@pytest.mark.journal("vault-agent@backend", "backend@backend")
def test_the_documented_change_of_password_fails_no_request(running: Running) -> None:
    names = running.names("backend")
    pids = {name: running.sh(name, "systemctl show -P MainPID backend") for name in names}
    old = {name: password_in_file(running, name) for name in names}
    with Traffic(running, path="notes", count=1200, rate=20, seconds=60) as traffic:
        # Nobody has run anything for longer than the administrator's token lives.
        running.lab.vault().auth.token.revoke_self()
        running.playbook("playbooks/rotate_database_password.yml", *MODE).require()
        for name in names:
            assert password_in_file(running, name) != old[name]
        # Sessions opened under the old password are closed: what connects now has the new one.
        running.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = 'lab' and usename not in ('postgres', 'vault') and state = 'idle'"
        )
        wait_until(
            lambda: (
                running.sql("select count(*) from pg_stat_activity where datname = 'lab' and usename = 'lab_app'")
                not in ("", "0")
            ),
            10,
            "a new connection is made",
        )
        traffic.stop()
    traffic.require_no_failure(least=40)
    assert {name: running.sh(name, "systemctl show -P MainPID backend") for name in names} == pids


@pytest.mark.late(6)
@pytest.mark.timeout(300)
def test_a_run_never_overwrites_what_an_operator_put(running: Running) -> None:
    before = password_in_file(running, running.names("backend")[0])
    again = running.playbook("site.yml", *MODE).require()
    assert again.changed == {}, again.output[-4000:]
    assert password_in_file(running, running.names("backend")[0]) == before
