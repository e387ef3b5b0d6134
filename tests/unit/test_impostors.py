"""Who listens where a service should, with another service's certificate of the same authority, is told nothing."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hashistack.lab.plugins.module_utils.http_api import ask
from ansible_collections.hashistack.lab.plugins.module_utils.vault_client import Vault
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.modules import consul_acl, consul_node
from plugins.modules.certificates import issue_authority, issue_leaf, key_pem, subject
from tools import lab
from tools.failures.certificates import issued as issued_earlier

VAULT, CONSUL = "vault.service.consul", "server.dc1.consul"
TOKEN = "4f1f0c7e-0000-4000-8000-000000000000"


class Listener(ThreadingHTTPServer):
    """Answers as a sealed Vault, and unsealed once it has been given a share; remembers all that it was sent."""

    def __init__(self, certificate: Path) -> None:
        self.heard: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, certificate.with_name(f"{certificate.stem}.key"))
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the handshake is what is tested."""


class Handler(BaseHTTPRequestHandler):
    """Any request."""

    server: Listener

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.heard.append(f"{self.command} {self.path} {self.headers} {body}")
        sealed = not any(request.startswith("PUT") for request in self.server.heard)
        text = json.dumps({"initialized": True, "sealed": sealed}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, and a certificate of Vault's and of Consul's."""
    folder = tmp_path_factory.mktemp("lab") / "tls"
    folder.mkdir()
    authority_key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    pem = issue_authority(subject("Test"), authority_key, 2, now)
    (folder / "ca.pem").write_bytes(pem)
    for name in (VAULT, CONSUL):
        key = ec.generate_private_key(ec.SECP256R1())
        wanted = {"common_name": name, "dns_names": [name], "ip_addresses": []}
        leaf = issue_leaf(wanted, key, x509.load_pem_x509_certificate(pem), authority_key, 1, now)
        (folder / f"{name}.pem").write_bytes(leaf)
        (folder / f"{name}.key").write_bytes(key_pem(key))
    old = x509.load_pem_x509_certificate((folder / f"{CONSUL}.pem").read_bytes())
    (folder / "old.pem").write_bytes(issued_earlier(old, timedelta(days=2), authority_key))
    (folder / "old.key").write_bytes((folder / f"{CONSUL}.key").read_bytes())
    return folder


@pytest.fixture
def listen(issued: Path) -> Iterator[Callable[[str], Listener]]:
    """Start a listener that has one service's certificate."""
    started: list[Listener] = []

    def start(name: str) -> Listener:
        listener = Listener(issued / f"{name}.pem")
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        started.append(listener)
        return listener

    yield start
    for listener in started:
        listener.shutdown()
        listener.server_close()


@pytest.fixture
def unseal(issued: Path, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start what unseals, with two shares, for the Vault at an address."""
    (tmp_path / "shares").write_text("share-one\nshare-two\n", encoding="ascii")
    started: list[subprocess.Popen[str]] = []

    def start(url: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(lab.ROOT / "roles/vault/files/vault-unseal"), url, str(issued / "ca.pem"), VAULT]
        environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(tmp_path)}
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_vault_is_given_the_shares(listen: Callable[[str], Listener], unseal: Callable[..., Any]) -> None:
    vault = listen(VAULT)
    unseal(vault.url).wait(timeout=20)
    assert any("share-one" in request for request in vault.heard)


def test_an_impostor_of_vault_is_given_no_share(listen: Callable[[str], Listener], unseal: Callable[..., Any]) -> None:
    impostor = listen(CONSUL)
    said = unseal(impostor.url).stdout.readline()
    assert impostor.heard == []
    assert "certificate verify failed" in said


def test_a_server_that_shows_its_old_certificate_yet_is_waited_for(
    listen: Callable[[str], Listener], issued: Path
) -> None:
    with pytest.raises(consul_acl.UnavailableError, match="certificate has expired"):
        ask_as_consul_acl(listen("old").url, issued / "ca.pem")
    with pytest.raises(consul_acl.RejectedError, match="certificate verify failed"):
        ask_as_consul_acl(listen(VAULT).url, issued / "ca.pem")


def ask_as_vault_modules(url: str, authority: Path) -> None:
    Vault([url], str(authority), VAULT, token=TOKEN, timeout=0).read("secret/data/app")


def ask_as_machines(url: str, authority: Path) -> None:
    ask(url, "sys/leader", ca_cert=str(authority), server_name=VAULT, headers={"X-Vault-Token": TOKEN})


def ask_as_consul_acl(url: str, authority: Path) -> None:
    consul_acl.Client(url, str(authority), CONSUL, TOKEN).request("GET", "acl/tokens")


def ask_as_consul_node(url: str, authority: Path) -> None:
    api = partial(ask, ca_cert=str(authority), server_name=CONSUL, headers={"X-Consul-Token": TOKEN})
    consul_node.servers_up(api, [url])


def ask_as_tools(url: str, authority: Path) -> None:
    machine = lab.Machine(name="control-1", group="control", address="127.0.0.1")
    vault = {"group": "control", "port": int(url.rpartition(":")[2]), "names": [VAULT]}
    this = lab.Lab("test", authority.parent.parent, "containers", "", "", (machine,), {"vault": vault})
    this.get(f"{url}/v1/sys/health", headers={"X-Vault-Token": TOKEN})


@pytest.mark.parametrize(
    ("client", "service", "other"),
    [
        (ask_as_vault_modules, VAULT, CONSUL),
        (ask_as_machines, VAULT, CONSUL),
        (ask_as_consul_acl, CONSUL, VAULT),
        (ask_as_consul_node, CONSUL, VAULT),
        (ask_as_tools, VAULT, CONSUL),
    ],
)
def test_a_token_is_sent_to_its_service_alone(
    client: Callable[[str, Path], None],
    service: str,
    other: str,
    issued: Path,
    listen: Callable[[str], Listener],
) -> None:
    right, wrong = listen(service), listen(other)
    client(right.url, issued / "ca.pem")
    assert TOKEN in "".join(right.heard)
    with pytest.raises(Exception, match="certificate"):
        client(wrong.url, issued / "ca.pem")
    assert wrong.heard == []
