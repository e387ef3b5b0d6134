"""Each backend has a database user of its own, made by Vault, with few rights and a short life."""

from __future__ import annotations

import secrets
import shlex
import subprocess
from typing import Any

import pytest

from tests.running import Running, Traffic, primary, wait_until

MAX_TTL = 90
LARGEST = 50
"""Backends of Terraform's largest lab."""
CROWD = """
import sys, threading, psycopg2
count, password = int(sys.argv[1]), sys.stdin.readline().strip()
opened, problems, places = [], [], threading.Semaphore(8)
def connect():
    with places:
        try:
            opened.append(psycopg2.connect(host="postgresql.service.consul", dbname="lab", user="crowd",
                password=password, sslmode="verify-full", sslrootcert="/etc/backend/tls/ca.pem", connect_timeout=30))
        except psycopg2.Error as error:
            problems.append(str(error).strip())
threads = [threading.Thread(target=connect) for _ in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(opened), *set(problems), flush=True)
sys.stdin.read()
"""


def users(running: Running) -> set[str]:
    """The dynamic users that PostgreSQL has."""
    return set(running.sql(r"select rolname from pg_roles where rolname like 'v-%'").split())


def user_of(running: Running, name: str) -> str:
    """The user that a backend's secrets name now."""
    text = running.sh(name, "cat /run/secrets/pg_service.conf")
    return next(line.partition("=")[2].strip("'\" ") for line in text.splitlines() if line.startswith("user="))


def test_each_instance_has_a_user_of_its_own(running: Running) -> None:
    names = running.names("backend")
    found = {name: user_of(running, name) for name in names}
    assert len(set(found.values())) == len(names)
    for name, user in found.items():
        assert user.startswith(f"v-{name}-")
        assert user in users(running)


def test_connections_are_encrypted_and_the_instances_own(running: Running) -> None:
    rows = running.sql(
        "select usename, client_addr, ssl from pg_stat_activity join pg_stat_ssl using (pid) where usename like 'v-%'"
    ).splitlines()
    assert rows
    owners = {machine.address: machine.name for machine in running.lab.group("backend")}
    for row in rows:
        user, address, encrypted = row.split("|")
        assert encrypted == "t"
        assert user.startswith(f"v-{owners[address]}-")


def test_passwords_are_scram(running: Running) -> None:
    kinds = running.sql("select distinct left(rolpassword, 13) from pg_authid where rolpassword is not null").split()
    assert kinds == ["SCRAM-SHA-256"]


@pytest.mark.parametrize(
    "statement",
    [
        "alter table notes add column x int",
        "drop table notes",
        "truncate notes",
        "create table x (y int)",
        "create role x",
        "copy notes to program 'cat'",
        "select * from pg_authid",
    ],
)
def test_a_backends_user_cannot(running: Running, statement: str) -> None:
    """As the role itself, by the superuser's SET ROLE: its password never leaves the machine."""
    user = user_of(running, running.names("backend")[0])
    done = running.attempt(
        primary(running),
        "psql -U postgres -XAtq -v ON_ERROR_STOP=1 -d lab",
        f'set session authorization "{user}";\nbegin;\n{statement};\nrollback;',
    )
    assert done.returncode != 0, f"{statement} was allowed"
    assert any(text in done.stderr for text in ("permission denied", "must be owner", "must be superuser")), done.stderr


@pytest.mark.late(3)
@pytest.mark.journal("vault-agent@backend", "backend@backend")
@pytest.mark.timeout(240)
def test_users_change_at_their_max_ttl_and_no_request_fails(running: Running) -> None:
    """With the test lab's max_ttl of 90 s: a new user, the old one gone, rows stay, the process stays."""
    ttl = running.lab.vault().read("database/config/lab")  # reachable: a clear failure where it is not
    assert ttl
    names = running.names("backend")
    pids = {name: running.sh(name, "systemctl show -P MainPID backend") for name in names}
    old = {name: user_of(running, name) for name in names}
    created = running.api("notes", "POST", json={"text": "written under the old user"}).json()["note"]["id"]
    with Traffic(running, path="notes", count=2000, rate=12, seconds=MAX_TTL + 60) as traffic:
        wait_until(
            lambda: all(user_of(running, name) != old[name] for name in names),
            MAX_TTL + 20,
            "every backend has a new user",
            every=1,
        )
        wait_until(lambda: not set(old.values()) & users(running), 40, "the old users are gone", every=1)
        traffic.stop()
    traffic.require_no_failure(least=100)
    assert {name: running.sh(name, "systemctl show -P MainPID backend") for name in names} == pids
    assert created in [note["id"] for note in running.api("notes").json()["notes"]]
    assert running.api(f"notes/{created}", "DELETE").status_code == 204


@pytest.mark.timeout(120)
def test_the_pools_of_fifty_backends_are_open_at_once(running: Running, vault: Any) -> None:
    """As many connections as a full pool on each of fifty machines; the lab goes on, and Vault still makes users."""
    total = running.sh(running.names("database")[0], "awk '/MemTotal/ { print $2 }' /proc/meminfo")
    if int(total) < 900_000:
        pytest.skip(f"the database's machine has {int(total) // 1024} MiB; for so many it wants 1 GiB")
    name = running.names("backend")[0]
    size = int(running.sh(name, "systemctl show -P Environment backend").partition("BACKEND_POOL_SIZE=")[2].split()[0])
    others = size * (LARGEST - len(running.names("backend")))
    password = secrets.token_urlsafe(16)
    running.sql(f"create role crowd login password '{password}' in role lab_rw")
    command = f"cd /opt/backend/current && /usr/bin/python3 -BS -c {shlex.quote(CROWD)} {others}"
    with subprocess.Popen(
        ["ssh", "-F", str(running.ssh_config), name, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as crowd:
        assert crowd.stdin
        assert crowd.stdout
        try:
            print(password, file=crowd.stdin, flush=True)
            assert crowd.stdout.readline().strip() == str(others)
            assert int(running.sql("select count(*) from pg_stat_activity where usename = 'crowd'")) == others
            with Traffic(running, "notes", count=40, rate=40) as traffic:
                user = vault.read(f"database/creds/{name}")
            traffic.require_no_failure(40)
        finally:
            crowd.stdin.close()
            crowd.wait(timeout=30)
            running.sql("drop role crowd")
    vault.sys.revoke_lease(user["lease_id"])
