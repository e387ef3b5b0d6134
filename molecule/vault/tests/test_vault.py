"""Three nodes that unseal themselves: after a reboot, after a crash, and not when an operator has sealed them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.running import Running, active, wait_until

pytestmark = [pytest.mark.journal("vault@control", "vault-unseal@control"), pytest.mark.timeout(180)]
NODES = ("control-1", "control-2", "control-3")


def sealed(running: Running, name: str) -> bool:
    """Whether a node is sealed."""
    address = running.lab.machine(name).address
    return bool(running.lab.get(f"https://{address}:8200/v1/sys/seal-status").json()["sealed"])


def serving(running: Running) -> bool:
    """Whether all nodes are unsealed and one of them is active."""
    return not any(sealed(running, name) for name in NODES) and active(running) in NODES


def tolerance(running: Running) -> int:
    """How many nodes may fail before the cluster stops; raft gives a new node its vote only after ten good seconds."""
    state = running.lab.vault(running.lab.machine(active(running))).read("sys/storage/raft/autopilot/state")
    return int(state["data"]["failure_tolerance"])


def write(running: Running, name: str, value: str) -> bool:
    """Write a secret through a node, whatever its role; whether it was taken."""
    secrets = running.lab.vault(running.lab.machine(name)).secrets.kv.v2
    secrets.create_or_update_secret("molecule", secret={"value": value}, mount_point="secret")
    return True


def read(running: Running, name: str) -> str:
    """Read it again."""
    secrets = running.lab.vault(running.lab.machine(name)).secrets.kv.v2
    answer = secrets.read_secret_version("molecule", mount_point="secret", raise_on_deleted_version=True)
    return str(answer["data"]["data"]["value"])


@pytest.fixture(autouse=True, scope="module")
def unsealed(running: Running) -> None:
    """All nodes have unsealed themselves after the reboot with no command given."""
    wait_until(lambda: serving(running), 90, "three unsealed nodes, one of them active")


def test_the_active_node_has_its_name(running: Running) -> None:
    def found(name: str) -> list[str]:
        return running.sh("control-1", f"getent ahostsv4 {name} | cut -d' ' -f1 | sort -u").split()

    wait_until(
        lambda: found("active.vault.service.consul") == [running.lab.machine(active(running)).address], 30, "its name"
    )
    wait_until(lambda: len(found("vault.service.consul")) == 3, 30, "all nodes have the common name")


def test_a_killed_active_node_is_replaced_and_comes_back_unsealed(
    running: Running, kill: Callable[[str, str], None]
) -> None:
    wait_until(lambda: tolerance(running) == 1, 60, "one node may fail")
    before = active(running)
    assert write(running, before, f"before {before}")
    kill(before, "vault")
    wait_until(lambda: active(running) not in ("", before), 30, "another node is active")
    other = active(running)
    assert read(running, other) == f"before {before}"
    wait_until(lambda: write(running, other, "after"), 10, "a write is taken")
    wait_until(lambda: not sealed(running, before), 60, "the killed node has unsealed itself")
    wait_until(lambda: read(running, before) == "after", 15, "it serves again")


def test_an_operators_seal_holds_until_the_next_start(running: Running) -> None:
    name = active(running)
    running.lab.vault(running.lab.machine(name)).sys.seal()
    wait_until(lambda: active(running) not in ("", name), 30, "another node is active")
    assert sealed(running, name)
    running.sh(name, "systemctl restart vault")
    wait_until(lambda: serving(running), 60, "it has unsealed itself at its start")


def test_without_a_token_nothing_is_told(running: Running) -> None:
    address = running.lab.machine(active(running)).address
    for path in ("secret/data/molecule", "sys/mounts"):
        assert running.lab.get(f"https://{address}:8200/v1/{path}").status_code == 403, path


def test_the_root_token_is_gone_and_the_keys_are_the_controllers_alone(running: Running) -> None:
    keys = running.lab.directory / "vault" / "init.json"
    assert oct(keys.stat().st_mode & 0o777) == "0o600"
    assert not json.loads(keys.read_text(encoding="utf-8")).get("root_token")


def test_no_share_is_on_a_machines_disk_in_the_clear(running: Running) -> None:
    text = (running.lab.directory / "vault" / "init.json").read_text(encoding="utf-8")
    values: list[Any] = [value for item in json.loads(text).values() if isinstance(item, list) for value in item]
    assert len(values) >= 3
    for name in NODES:
        patterns = "\n".join(str(value) for value in values)
        done = running.attempt(name, "grep -rlsF -f /dev/stdin /etc /opt /root /usr/local /var", patterns)
        assert not done.stdout, name


def test_requests_are_in_the_audit_log_without_their_secrets(running: Running, host: Callable[[str], Any]) -> None:
    name = active(running)
    assert write(running, name, "a secret that nobody logs")
    file = host(name).file("/var/log/vault/audit.log")
    assert (file.user, oct(file.mode)) == ("vault", "0o600")
    log = running.sh(name, "tail -n 50 /var/log/vault/audit.log")
    assert "secret/data/molecule" in log
    assert "nobody logs" not in log


def test_a_full_audit_log_is_rotated_and_written_on(running: Running) -> None:
    name = active(running)
    running.sh(name, "head -c 21M /dev/zero | tr '\\0' '\\n' >> /var/log/vault/audit.log")
    running.sh(name, "systemctl start vault-logrotate")
    assert running.sh(name, "stat -c '%a %U' /var/log/vault/audit.log.1").split() == ["600", "vault"]
    assert write(running, name, "after it")
    wait_until(lambda: running.sh(name, "grep -c secret/data/molecule /var/log/vault/audit.log"), 10, "it is logged")


@pytest.mark.parametrize("path", ["vault.json", "tls/vault-key.pem"])
def test_only_vault_reads_its_settings(host: Callable[[str], Any], path: str) -> None:
    file = host("control-1").file(f"/etc/vault.d/{path}")
    assert (file.user, file.group, oct(file.mode)) == ("root", "vault", "0o640")


@pytest.mark.parametrize("unit", ["vault.service", "vault-unseal.service"])
def test_the_units_are_hardened(exposure: Callable[[str, str], float], unit: str) -> None:
    assert exposure("control-1", unit) <= 2


def test_wrong_options_are_refused_with_a_sentence(refuses: Callable[..., str]) -> None:
    assert "/nonexistent/vault is not a program on the controller" in refuses(vault_program="/nonexistent/vault")
    assert "argument 'vault_audit_log_keep' is of type str" in refuses(vault_audit_log_keep="many")
