"""Credentials that PostgreSQL refuses: each instance says so on its machine, and has new ones within seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.running import Running, Traffic, wait_until

pytestmark = [
    pytest.mark.late(11),
    pytest.mark.timeout(180),
    pytest.mark.journal("backend@backend", "vault-agent@backend", "vault-agent-refused@backend"),
]
RELOAD = "psql -U postgres -qc 'SELECT pg_reload_conf()' > /dev/null"
HEALED = 5.0
"""Seconds in which all instances have new credentials, and serve."""


def seen(running: Running, name: str) -> dict[str, Any]:
    """How an instance sees its database."""
    told = running.backend(running.lab.machine(name), "api/status").json()
    return dict(told["database"])


def users(running: Running) -> dict[str, str]:
    """The database user of each instance, all of which have one."""
    found = {name: seen(running, name) for name in running.names("backend")}
    assert all(one["status"] == "up" for one in found.values()), found
    return {name: str(one["user"]) for name, one in found.items()}


def pids(running: Running) -> dict[str, str]:
    """The process of each instance."""
    return {name: running.sh(name, "systemctl show -P MainPID backend") for name in running.names("backend")}


def wait_until_quiet(running: Running) -> None:
    """Until no machine fetches anew, which is done once in 5 s at most."""
    for name in running.names("backend"):
        asks = "systemctl is-active vault-agent-refused"
        wait_until(lambda n=name, c=asks: running.attempt(n, c).stdout == "inactive\n", 10, f"{name} fetches no more")  # type: ignore[misc]


def revoke(running: Running) -> None:
    """``vault lease revoke -prefix database/creds/``."""
    running.lab.vault().sys.revoke_prefix("database/creds/")


def drop(running: Running) -> None:
    """Each instance's role, by hand; its sessions stay."""
    for user in users(running).values():
        running.sql(f'DROP ROLE "{user}"', "postgres")


def drop_and_end(running: Running) -> None:
    """Each role with its sessions, as in a database that is restored from an older dump."""
    for user in users(running).values():
        running.sql(
            f'ALTER ROLE "{user}" NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
            f" WHERE usename = '{user}'; DROP ROLE \"{user}\"",
            "postgres",
        )


@pytest.mark.parametrize("harm", [revoke, drop, drop_and_end])
def test_new_credentials_come_within_5_seconds(running: Running, harm: Callable[[Running], None]) -> None:
    running.wait_healthy(30)
    wait_until_quiet(running)
    processes, before = pids(running), users(running)
    with Traffic(running, path="notes", count=600, rate=20, seconds=40) as traffic:
        harm(running)
        began = time.monotonic()

        def healed() -> bool:
            now = users(running)
            return all(now[name] != before[name] for name in before)

        wait_until(healed, HEALED, "each instance has another user, and its database")
        took = time.monotonic() - began
        created = running.api("notes", "POST", json={"text": f"after {harm.__name__}"})
        assert created.status_code == 201, created.text
        traffic.stop()
    running.api(f"notes/{created.json()['note']['id']}", "DELETE")
    # Those that wait for new credentials are few: one thread sends them.
    traffic.require_no_failure(least=2)
    assert traffic.slowest < HEALED, f"healed after {took:.1f} s"
    assert pids(running) == processes, "no instance was restarted"
    for name in before:
        assert running.sh(name, "ls /run/secrets-refused") == ""
    wait_until_quiet(running)
    running.wait_healthy(30)


def test_a_login_that_nothing_heals_is_red_and_costs_vault_little(running: Running) -> None:
    """PostgreSQL refuses whoever comes: `make status` and the page say so, and the agents fetch ever more seldom."""
    name = running.names("backend")[0]
    hba = running.sql("SHOW hba_file", "postgres")
    began = running.sh(name, "date +%s").strip()
    refuse = f"cp -p {hba} /root/hba && sed -i '/^hostssl *lab /s/^/# /' {hba} && {RELOAD}"
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'v-%'"
    running.each("database", f'{refuse} && psql -U postgres -qc "{end}" > /dev/null')
    try:
        wait_until(lambda: seen(running, name)["status"] == "down", HEALED, "the instance says that it has no database")
        status = json.loads(running.status().stdout)
        assert (status["healthy"], status["verdict"]) == (False, "unhealthy"), status
        lines = {line["name"]: line for line in status["lines"] if line["section"] == "Database"}
        assert lines[name]["state"] == "away", lines
        assert running.api("notes").status_code == 503
        time.sleep(15)
    finally:
        running.each("database", f"cat /root/hba > {hba}; rm /root/hba; {RELOAD}")
    running.wait_database(10)
    said = running.sh(name, f"journalctl --since=@{began} -u vault-agent-refused -o cat | grep -c fetching").strip()
    assert int(said) <= 4
    assert running.sh(name, "systemctl list-units --failed --plain --no-legend") == ""
    running.wait_healthy(30)


def test_credentials_that_nothing_renews_are_told_of_before_they_end(running: Running) -> None:
    """As when Vault is away: the page, `make status` and Consul's check say it while all still works."""
    name = running.names("backend")[0]
    with Traffic(running, path="notes", count=1600, rate=20, seconds=80) as traffic:
        running.sh(name, "systemctl stop vault-agent")
        try:
            left = wait_until(lambda: ending(running, name), 40, "the instance says that its credentials end")
            wait_until(lambda: "warning" in running.checks("backend"), 10, "Consul warns of it")
            status = json.loads(running.status().stdout)
        finally:
            running.sh(name, "systemctl start vault-agent")
        wait_until(lambda: not ending(running, name), 5, "they are renewed")
        traffic.stop()
    traffic.require_no_failure(least=20)
    assert left
    assert (status["healthy"], status["verdict"]) == (True, "healthy"), status
    levels = {line["name"]: (line["state"], line["level"]) for line in status["lines"] if line["section"] == "Database"}
    assert levels.pop(name) == ("ends soon", "warning")
    assert set(levels.values()) == {("up", "good")}
    (service,) = [line for line in status["lines"] if (line["section"], line["name"]) == ("Services", "backend")]
    assert (service["level"], f"{name} warning" in service["detail"]) == ("warning", True), service


def ending(running: Running, name: str) -> float | None:
    """Seconds until an instance's credentials end, if it says that they should have been renewed."""
    told = seen(running, name)
    return float(told["credentials_end_seconds"]) if told["credentials_ending"] else None


def test_secrets_that_are_removed_by_hand_come_back(running: Running) -> None:
    name = running.names("backend")[0]
    with Traffic(running, path="notes", count=300, rate=20, seconds=30) as traffic:
        running.sh(name, "rm -f /run/secrets/*")
        wait_until(
            lambda: running.sh(name, "ls /run/secrets").split() == ["app.json", "pg_service.conf"],
            HEALED,
            "the agent has written them again",
        )
        traffic.stop()
    traffic.require_no_failure(least=1)
    running.wait_healthy(30)
