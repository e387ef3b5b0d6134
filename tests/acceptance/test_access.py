"""What strangers get: nothing."""

from __future__ import annotations

import json
import socket
import textwrap
from typing import Any

import hvac
import pytest
import requests

from tests.running import Running


def opened(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def test_only_known_ports_listen_off_loopback(running: Running) -> None:
    for machine in running.lab.machines:
        lines = running.sh(machine.name, "ss -Hltn").splitlines()
        ends = [line.split()[3].rpartition(":") for line in lines]
        open_ports = {int(port) for address, _, port in ends if not address.strip("[]").startswith(("127.", "::1"))}
        services = running.lab.services_of(machine).values()
        known = {22, *(port for entry in services for port in (entry.get("port", 22), *entry.get("between", ())))}
        assert open_ports == known, f"{machine.name}: {open_ports ^ known}"


@pytest.mark.parametrize("port", [8500, 8600, 8502, 53])
def test_plain_ports_are_closed_off_loopback(running: Running, port: int) -> None:
    for machine in running.lab.machines:
        assert not opened(machine.address, port), f"{machine.name}:{port} is open"


@pytest.mark.parametrize("port", [8501, 8200])
def test_https_ports_speak_no_plain_http(running: Running, port: int) -> None:
    machine = running.lab.group("control")[0]
    try:
        answer = requests.get(f"http://{machine.address}:{port}/v1/status/leader", timeout=3)
    except requests.RequestException:
        return
    assert answer.status_code == 400


def test_consul_tells_a_stranger_nothing(running: Running) -> None:
    for machine in running.lab.group("control"):
        stranger = f"https://{machine.address}:8501/v1"
        services = running.lab.get(f"{stranger}/catalog/services")
        assert services.status_code == 403 or services.json() == {}
        nodes = running.lab.get(f"{stranger}/catalog/nodes")
        assert nodes.status_code == 403 or nodes.json() == []
        for path in ("agent/self", "kv/?recurse", "acl/tokens", "agent/members"):
            answer = running.lab.get(f"{stranger}/{path}")
            assert answer.status_code in (403, 404) or answer.json() == [], f"{path}: {answer.text[:200]}"


def test_consul_refuses_a_strangers_change(running: Running) -> None:
    address = running.lab.group("control")[0].address
    service = {"Node": "x", "Address": "10.0.0.1", "Service": {"Service": "backend"}}
    for path, body in (("kv/x", "y"), ("catalog/register", json.dumps(service)), ("agent/leave", "")):
        answer = running.lab.request("PUT", f"https://{address}:8501/v1/{path}", data=body, timeout=5)
        assert answer.status_code == 403, f"{path}: {answer.status_code}"


def test_consul_on_loopback_tells_no_service_without_a_token(running: Running) -> None:
    for name in (running.names("frontend")[0], running.names("control")[0]):
        out = running.sh(name, "curl -s -m 5 http://127.0.0.1:8500/v1/catalog/services")
        assert not {"vault", "postgresql", "backend", "frontend"} & set(json.loads(out) if out.startswith("{") else {})


def test_vault_refuses_a_stranger(running: Running) -> None:
    for machine in running.lab.group("control"):
        for path in ("secret/data/app", "secret/data/db", "sys/mounts", "database/creds/x", "sys/policies/acl"):
            assert running.lab.get(f"https://{machine.address}:8200/v1/{path}").status_code == 403


def test_the_root_token_is_revoked(running: Running) -> None:
    """No token that lives holds the policy root."""
    vault = running.lab.vault()
    accessors = vault.list("auth/token/accessors")["data"]["keys"]
    for accessor in accessors:
        data = lookup(vault, accessor)
        assert "root" not in data.get("policies", []), f"a root token lives: {data}"


def lookup(vault: Any, accessor: str) -> dict[str, Any]:
    """What Vault knows of a token; nothing if it has ended meanwhile."""
    try:
        data: dict[str, Any] = vault.auth.token.lookup_accessor(accessor)["data"]
    except hvac.exceptions.VaultError:
        return {}
    return data


def test_vault_writes_an_audit_log_that_only_it_reads(running: Running) -> None:
    """A node opens its log when it becomes the active one for the first time."""
    vault = running.lab.vault()
    assert "file/" in vault.sys.list_enabled_audit_devices()["data"]
    found = []
    for name in running.names("control"):
        out = running.attempt(name, "stat -c '%a %U %s' /var/log/vault/audit.log").stdout.split()
        if out:
            found.append(name)
            assert out[:2] == ["600", "vault"]
            assert int(out[2]) > 0
    assert found


def test_the_backend_wants_tls_and_its_certificate_is_the_labs(running: Running) -> None:
    machine = running.lab.group("backend")[0]
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{machine.address}:8443/health", timeout=5)
    assert running.backend(machine, "health").status_code == 200


def test_the_backend_serves_no_stranger(running: Running) -> None:
    """Neither without a certificate nor with that of a service that has nothing to ask here."""
    frontend, database = running.names("frontend")[0], running.names("database")[0]
    knock = "curl -sS -m 5 -o /dev/null -w '%{http_code}' --cacert /etc/consul.d/tls/ca.pem"
    for machine in running.lab.group("backend"):
        url = f"--resolve backend.service.consul:8443:{machine.address} https://backend.service.consul:8443/api/notes"
        for name in (frontend, database):
            assert running.sh(name, f"{knock} {url}") == "403"
        for other in running.lab.machines:
            for service, entry in running.lab.services_of(other).items():
                if "names" in entry:
                    user = f"{other.name}/{entry.get('certificate', service)}"
                    wanted = 200 if service in running.lab.services["backend"]["serves"] else 403
                    assert running.backend(machine, "api/notes", user=user).status_code == wanted, user


# Speaks just enough of PostgreSQL's protocol, since a frontend machine has no psql: startup, and the error's text.
KNOCK = textwrap.dedent(
    """
    import socket, ssl, struct, sys
    host, tls = sys.argv[1], sys.argv[2] == "tls"
    s = socket.create_connection((host, 5432), 5)
    if tls:
        s.sendall(struct.pack("!ii", 8, 80877103))
        assert s.recv(1) == b"S", "no TLS"
        c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
        s = c.wrap_socket(s)
    body = struct.pack("!i", 196608) + b"user\\0postgres\\0database\\0lab\\0\\0"
    s.sendall(struct.pack("!i", len(body) + 4) + body)
    print(s.recv(4096).decode(errors="replace"))
    """
)


@pytest.mark.parametrize("tls", ["tls", "plain"])
def test_postgresql_knows_no_entry_for_the_frontend(running: Running, tls: str) -> None:
    frontend, database = running.names("frontend")[0], running.lab.group("database")[0]
    out = running.sh(frontend, f"python3 - {database.address} {tls}", KNOCK)
    assert "no pg_hba.conf entry" in out


def test_postgresql_refuses_a_backend_without_tls(running: Running) -> None:
    backend, database = running.names("backend")[0], running.lab.group("database")[0]
    assert "no pg_hba.conf entry" in running.sh(backend, f"python3 - {database.address} plain", KNOCK)


def test_the_backends_account_cannot_read_the_agents_files(running: Running) -> None:
    """The application has no Vault token, SecretID or address: not even a way to one."""
    name = running.names("backend")[0]
    for folder in ("/etc/vault-agent.d", "/var/lib/vault-agent", "/run/vault-agent", "/etc/credstore.encrypted"):
        find = f"setpriv --reuid=backend --regid=backend --clear-groups find {folder} -type f -readable"
        out = running.attempt(name, f"test -e {folder} && {find} 2>/dev/null").stdout
        readable = [line for line in out.splitlines() if not line.endswith((".pem", ".crt"))]
        assert readable == [], f"the backend can read {readable}"
    pid = running.sh(name, "systemctl show -P MainPID vault-agent").strip()
    denied = running.attempt(name, f"setpriv --reuid=backend --regid=backend --clear-groups cat /proc/{pid}/environ")
    assert denied.returncode != 0


def test_run_secrets_is_tmpfs_and_closed(running: Running) -> None:
    for name in running.names("backend"):
        assert running.sh(name, "stat -f -c %T /run/secrets").strip() == "tmpfs"
        assert running.sh(name, "stat -c '%a %U %G' /run/secrets").split() == ["2750", "vault-agent", "backend"]
        modes = running.sh(name, "stat -c '%a %U:%G %n' /run/secrets/*").splitlines()
        assert {line.rsplit(" ", 1)[0] for line in modes} == {"640 vault-agent:backend"}
        assert {line.rpartition("/")[2] for line in modes} >= {"pg_service.conf", "app.json"}


def test_the_controllers_files_are_the_owners_alone(running: Running) -> None:
    folder = running.lab.directory
    assert folder.stat().st_mode & 0o077 == 0
    private = [path for path in folder.rglob("*") if path.suffix in (".key", ".json") or "token" in path.name]
    assert len(private) > 10
    for path in [*private, folder / "ssh" / "id_ed25519", folder / "env"]:
        assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"
