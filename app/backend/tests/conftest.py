"""A throw-away PostgreSQL on loopback, from Debian's package, shaped as the lab's: owner, group, short-lived users."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from lab_backend.settings import Settings

MIGRATIONS = Path(__file__).parents[1] / "src/lab_backend/migrations"


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """A running cluster and what the tests do to it."""

    def __init__(self, directory: Path) -> None:
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[4]))
        if not found:
            pytest.fail("these tests need PostgreSQL: apt-get install postgresql")
        self.bin, self.directory, self.port = Path(found[-1]), directory, free_port()
        # PostgreSQL refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            os.chown(directory, pwd.getpwnam(self.user).pw_uid, -1)
        self.run("initdb", "-D", "data", "-U", "admin", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync")
        with (directory / "data/postgresql.conf").open("a") as file:
            file.write(
                f"port={self.port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{directory}'\n"
                "fsync=off\npassword_encryption='scram-sha-256'\n"
            )

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs."""
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            user=self.user,
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        self.run("pg_ctl", "-D", "data", "-l", "log", "-w", "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", "data", "-m", "fast", "-w", "stop")

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """All its processes stand still meanwhile: connections are taken by the kernel, and nothing is said."""
        main = int((self.directory / "data/postmaster.pid").read_text().split()[0])
        listed = subprocess.run(
            ["/bin/ps", "-o", "pid=", "--ppid", str(main)], capture_output=True, text=True, check=True
        )
        processes = [main, *map(int, listed.stdout.split())]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def sql(self, statement: str, database: str = "lab") -> list[tuple[object, ...]]:
        """Run a statement as the administrator."""
        connection = psycopg2.connect(host=str(self.directory), port=self.port, user="admin", dbname=database)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def create_user(self, name: str, password: str) -> None:
        """As Vault does."""
        self.sql(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}' INHERIT IN ROLE lab_rw")

    def revoke_user(self, name: str) -> None:
        """As Vault does."""
        self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'")
        self.sql(f'DROP ROLE IF EXISTS "{name}"')

    def write_service(self, path: Path, user: str, password: str, writer: int = 0) -> None:
        """As Vault Agent does: a new file renamed over the old one. The server that writes may have another port."""
        draft = path.with_suffix(".new")
        draft.write_text(
            "".join(
                f"[{section}]\nhost=127.0.0.1\nport={port}\ndbname=lab\n"
                f"user={user}\npassword={password}\nsslmode=disable\n"
                for section, port in (("lab", writer or self.port), ("lab-read", self.port))
            )
        )
        draft.replace(path)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with the tables, started once."""
    directory = Path(tempfile.mkdtemp(prefix="lab-backend-"))
    it = Cluster(directory)
    it.start()
    try:
        it.sql("CREATE ROLE lab_owner NOLOGIN", "postgres")
        it.sql("CREATE ROLE lab_rw NOLOGIN", "postgres")
        it.sql("CREATE DATABASE lab OWNER lab_owner", "postgres")
        it.sql("GRANT USAGE ON SCHEMA public TO lab_rw")
        it.sql(
            "ALTER DEFAULT PRIVILEGES FOR ROLE lab_owner IN SCHEMA public"
            " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO lab_rw"
        )
        for file in sorted(MIGRATIONS.glob("*.sql")):
            it.sql("SET ROLE lab_owner; " + file.read_text())
        yield it
    finally:
        with contextlib.suppress(AssertionError):
            it.stop()
        shutil.rmtree(directory)


@pytest.fixture
def settings(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an instance whose secrets are there: user `first` may use the empty table."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    monkeypatch.setenv("PGSERVICEFILE", str(secrets / "pg_service.conf"))
    cluster.sql("TRUNCATE notes")
    cluster.revoke_user("first")
    cluster.revoke_user("second")
    cluster.create_user("first", "one")
    it = Settings(
        instance="backend-1",
        address="127.0.0.1",
        secrets=secrets,
        credentials=None,
        drain_file=tmp_path / "draining",
        complaint_file=tmp_path / "refused",
        ca_file=None,
        pool_size=3,
        pool_waiters=4,
        database_deadline=3.0,
    )
    cluster.write_service(it.service_file, "first", "one")
    it.app_file.write_text('{"greeting": "hello"}')
    return it
