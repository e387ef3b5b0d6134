"""What the unit tells the process. No secret is among it: those are files, read when they are used."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Names, places and limits; times are in seconds."""

    instance: str
    address: str
    secrets: Path
    """Directory with pg_service.conf and app.json, filled by Vault Agent."""
    credentials: Path | None
    """Directory with consul_token, given by systemd (LoadCredential)."""
    drain_file: Path | None
    """While this file exists the instance asks to be left alone: /health answers 503."""
    ca_file: Path | None
    """The authority that has signed the other instances' certificates."""
    certificate_file: Path | None = None
    """What this instance shows the others."""
    key_file: Path | None = None
    name: str = "backend.service.consul"
    """What the other instances' certificates must say."""
    complaint_file: Path | None = None
    """While this file exists the machine knows that the credentials are refused."""
    consul_host: str = "127.0.0.1"
    consul_port: int = 8500
    consul_service: str = "backend"
    database_service: str = "lab"
    """The section of pg_service.conf for the server that also writes."""
    database_read_service: str = "lab-read"
    """That for one that need only read, asked while the other is away."""
    pool_size: int = 6
    pool_waiters: int = 32
    database_deadline: float = 4.5
    """In which a request is answered, so that who waits for 5 has an answer, also where a second instance was asked."""

    @property
    def service_file(self) -> Path:
        """Where libpq finds the database's address and the credentials of the moment."""
        return self.secrets / "pg_service.conf"

    @property
    def app_file(self) -> Path:
        """Settings that are no credentials."""
        return self.secrets / "app.json"

    @property
    def consul_token_file(self) -> Path | None:
        """The token to read the service catalogue with."""
        return self.credentials / "consul_token" if self.credentials else None


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the variables that backend.service sets. Raises ValueError for a number that is none."""

    def path(name: str) -> Path | None:
        return Path(environment[name]) if environment.get(name) else None

    return Settings(
        instance=environment.get("BACKEND_INSTANCE") or socket.gethostname(),
        address=environment.get("BACKEND_ADDRESS", "127.0.0.1"),
        secrets=Path(environment.get("BACKEND_SECRETS", "/run/secrets")),
        credentials=path("CREDENTIALS_DIRECTORY"),
        drain_file=path("BACKEND_DRAIN_FILE"),
        ca_file=path("BACKEND_CA_FILE"),
        certificate_file=path("BACKEND_TLS_CERTIFICATE"),
        key_file=path("BACKEND_TLS_KEY"),
        name=environment.get("BACKEND_NAME", "backend.service.consul"),
        complaint_file=path("BACKEND_COMPLAINT_FILE"),
        consul_port=int(environment.get("BACKEND_CONSUL_PORT", "8500")),
        pool_size=int(environment.get("BACKEND_POOL_SIZE", "6")),
        pool_waiters=int(environment.get("BACKEND_POOL_WAITERS", "32")),
        database_deadline=float(environment.get("BACKEND_DATABASE_DEADLINE", "4.5")),
    )
