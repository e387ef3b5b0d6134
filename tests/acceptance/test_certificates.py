"""A certificate says which service it is of, and a client that wants another one tells it nothing."""

from __future__ import annotations

import ssl
import textwrap
from collections.abc import Iterator

import pytest
from cryptography import x509

from tests.running import Running, active, wait_until


def names(certificate: x509.Certificate) -> set[str]:
    """All names and addresses that a certificate is valid for."""
    present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = present.get_values_for_type(x509.DNSName)
    return {*dns, *(str(address) for address in present.get_values_for_type(x509.IPAddress))}


def test_a_certificate_names_its_service_alone(running: Running) -> None:
    """Only the page's and the database's name an address too, by which a browser and the other machines come."""
    for machine in running.lab.machines:
        named = {name: entry for name, entry in running.lab.services_of(machine).items() if "names" in entry}
        wanted = {entry.get("certificate", name): {*entry["names"]} for name, entry in named.items()}
        for service in {"frontend", "postgresql"} & set(wanted):
            # The table's address is another machine's.
            wanted[service] = {name for name in wanted[service] if name.endswith(".consul")} | {machine.address}
        wanted["consul"] = {f"{'server' if machine.group == 'control' else 'client'}.dc1.consul"}
        found = {
            path.stem: names(x509.load_pem_x509_certificate(path.read_bytes()))
            for path in (running.lab.directory / "tls" / machine.name).glob("*.pem")
        }
        assert found == wanted, machine.name


def test_a_service_shows_the_certificate_that_was_issued_last(running: Running) -> None:
    for machine in running.lab.machines:
        for service, entry in running.lab.services_of(machine).items():
            if "port" not in entry or service == "postgresql":  # which speaks a protocol of its own before TLS
                continue
            shown = ssl.get_server_certificate((machine.address, entry["port"]), timeout=10).encode()
            issued = (running.lab.directory / "tls" / machine.name / f"{service}.pem").read_bytes()
            same = x509.load_pem_x509_certificate(shown) == x509.load_pem_x509_certificate(issued)
            assert same, f"{service} on {machine.name}"


# Answers whatever it is asked as a sealed Vault does, and prints what it was sent.
IMPOSTOR = textwrap.dedent(
    """
    import http.server, ssl
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            print(self.command, self.path, len(body), flush=True)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"initialized": true, "sealed": true}')
        do_GET = do_PUT = answer
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 8200), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("/etc/consul.d/tls/consul.pem", "/etc/consul.d/tls/consul-key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print("listening", flush=True)
    server.serve_forever()
    """
)


@pytest.fixture
def impostor(running: Running) -> Iterator[str]:
    """A machine on which the account consul listens in Vault's place while Vault is stopped."""
    first = wait_until(lambda: active(running), 30, "Vault has an active node")
    name = next((name for name in running.names("control") if name != first), None)
    if name is None:
        pytest.skip("one control machine: without its Vault nothing goes on")
    running.sh(name, "systemctl stop vault")
    running.sh(name, "cat > /run/impostor.py", IMPOSTOR)
    running.sh(name, "systemd-run --quiet --collect --unit impostor --uid consul --gid consul python3 /run/impostor.py")
    yield name
    running.sh(name, "systemctl stop vault-unseal impostor; rm /run/impostor.py; systemctl start vault")
    running.wait_healthy(60)


@pytest.mark.late(10)
@pytest.mark.journal("vault@control", "vault-unseal@control")
@pytest.mark.timeout(180)
def test_who_listens_in_vaults_place_is_given_no_share(running: Running, impostor: str) -> None:
    def journal(unit: str) -> str:
        return running.sh(impostor, f"journalctl -u {unit} -o cat --no-pager -n 20 --since '{since}'")

    since = running.sh(impostor, "date '+%F %T'").strip()
    wait_until(lambda: "listening" in running.sh(impostor, "journalctl -u impostor -o cat -n 5"), 15, "it listens")
    running.sh(impostor, "systemctl start vault-unseal")
    wait_until(lambda: "certificate" in journal("vault-unseal") or "PUT" in journal("impostor"), 30, "it was tried")
    assert "PUT" not in journal("impostor"), "the impostor was sent a share"
    assert "certificate" in journal("vault-unseal")
