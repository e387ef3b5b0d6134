"""Who may log in can, by the server's name and over verified TLS; everybody else is refused."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest

from tests.running import Running, primary, wait_until

pytestmark = [pytest.mark.journal("patroni@database", "consul@database"), pytest.mark.timeout(120)]
NAME = "postgresql.service.consul"
CA = "/etc/consul.d/tls/ca.pem"


@pytest.fixture(scope="module")
def password(running: Running) -> str:
    """The password of a user `reader` of the database `lab`."""
    wait_until(lambda: running.sql("SELECT 1", "postgres") == "1", 60, "the database is up after the reboot")
    word = secrets.token_urlsafe(16)
    running.sql("DROP DATABASE IF EXISTS lab; DROP ROLE IF EXISTS reader", "postgres")
    running.sql("CREATE DATABASE lab", "postgres")
    running.sql(f"CREATE ROLE reader LOGIN PASSWORD '{word}'", "postgres")
    wait_until(lambda: running.sh("control-1", f"getent hosts {NAME}"), 30, "the database has its name")
    return word


@pytest.mark.usefixtures("password")
def test_data_of_before_patroni_is_kept_and_the_empty_machine_has_it(running: Running) -> None:
    """See prepare.yml."""
    for name in running.names("database"):
        assert running.sh(name, "psql -U postgres -XAtc 'SELECT word FROM before_patroni'").strip() == "kept", name


@pytest.fixture
def login(running: Running, password: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Log in from control-1, with the right password and verified TLS unless told otherwise."""

    def run(word: str = password, **options: str) -> subprocess.CompletedProcess[str]:
        parts = {
            "host": NAME,
            "dbname": "lab",
            "user": "reader",
            "sslmode": "verify-full",
            "sslrootcert": CA,
            **options,
        }
        conninfo = " ".join(f"{name}={value}" for name, value in parts.items())
        return running.attempt(
            "control-1",
            f"read -r PGPASSWORD; export PGPASSWORD; psql -XAtw -c 'SELECT 40 + 2' '{conninfo}'",
            word + "\n",
        )

    return run


def test_a_user_logs_in_by_name_over_verified_tls(login: Callable[..., Any]) -> None:
    done = login()
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sslmode": "disable"}, "no pg_hba.conf entry"),
        ({"dbname": "postgres"}, "no pg_hba.conf entry"),
        ({"word": "wrong"}, "password authentication failed"),
        ({"user": "postgres"}, "password authentication failed"),
        ({"sslrootcert": "/etc/ssl/certs/ca-certificates.crt"}, "certificate"),
    ],
    ids=["without TLS", "another database", "a wrong password", "the superuser", "who trusts another authority"],
)
def test_refused(login: Callable[..., Any], options: dict[str, str], message: str) -> None:
    done = login(**options)
    assert done.returncode != 0
    assert message in done.stderr


def test_a_machine_that_is_not_named_is_refused(running: Running, password: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg2.connect(
            host=running.lab.machine("database-1").address,
            dbname="lab",
            user="reader",
            password=password,
            connect_timeout=5,
        )


def test_only_root_and_postgres_are_the_superuser(running: Running) -> None:
    refused = running.attempt("database-1", "setpriv --reuid nobody --clear-groups psql -U postgres -XAtc 'SELECT 1'")
    assert refused.returncode != 0
    assert "Peer authentication failed" in refused.stderr


def test_it_listens_where_it_should(running: Running, listening: Callable[[str], set[str]]) -> None:
    places = {place for place in listening("database-1") if place.endswith(":5432")}
    assert places == {f"{running.lab.machine('database-1').address}:5432"}


def test_a_statement_that_fails_leaves_no_password_in_the_log(running: Running, password: str) -> None:
    name = primary(running)
    running.attempt(name, "psql -U postgres -XAt", f"CREATE ROLE reader LOGIN PASSWORD '{password}-again';")
    found = running.attempt(name, "journalctl --no-pager; cat /var/log/postgresql/*").stdout
    assert password not in found
    assert "already exists" in found


def test_its_key_is_its_own(host: Callable[[str], Any]) -> None:
    file = host("database-1").file("/etc/patroni/tls/server.key")
    assert (file.user, file.group, oct(file.mode)) == ("root", "postgres", "0o640")


def test_the_unit_is_hardened(exposure: Callable[[str, str], float]) -> None:
    assert exposure("database-1", "patroni.service") <= 2


def test_wrong_options_are_refused_with_a_sentence(refuses: Callable[..., str]) -> None:
    assert "postgresql_allowed_addresses must hold addresses" in refuses(postgresql_allowed_addresses=["db.example"])
    assert "argument 'postgresql_max_connections' is of type str" in refuses(postgresql_max_connections="many")
    assert "postgresql_members must hold this host's postgresql_listen_address" in refuses(
        postgresql_members=["192.0.2.1"]
    )
