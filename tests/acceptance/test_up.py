"""The lab comes up, and says that it is healthy."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.running import Run, Running
from tools.lab import ROOT


def test_the_lab_comes_up(first_run: Run) -> None:
    first_run.require()


def test_a_wrapped_login_waits_for_no_copy(first_run: Run) -> None:
    """It lives for minutes, and a program may take as long to a machine that is far away or emulated."""
    output = first_run.output.replace("hashistack.lab.", "")
    issued, rest = output.split("TASK [Issue a SecretID", 1)[1].split("TASK [vault_agent : Unwrap", 1)
    assert "TASK [program : " not in issued
    assert "TASK [program : " in rest


@pytest.mark.journal("consul@lab", "vault@control", "backend@backend")
def test_status_is_healthy(running: Running) -> None:
    running.wait_healthy(30)
    lines = {(line["section"], line["name"]): line for line in json.loads(running.status().stdout)["lines"]}
    control = running.names("control")
    assert lines["Consul", "servers"]["state"] == f"{len(control)}/{len(control)}"
    assert sorted(lines["Vault", name]["state"] for name in control) == ["active"] + ["standby"] * (len(control) - 1)
    backends = len(running.names("backend"))
    assert lines["Services", "backend"]["state"] == f"{backends}/{backends}"


def test_no_unit_has_failed_on_any_machine(running: Running) -> None:
    for machine in running.lab.machines:
        assert running.sh(machine.name, "systemctl list-units --failed --plain --no-legend") == ""


def shell(running: Running, script: str) -> str:
    """What a script prints in an operator's shell, after `source .lab/NAME/env`; it must succeed."""
    done = subprocess.run(
        ["bash", "-euc", f"source '{running.lab.directory}/env'; {script}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        # Another lab's token in the shell does no harm.
        env={"PATH": "/usr/bin:/bin", "VAULT_TOKEN": "another", "CONSUL_HTTP_TOKEN": "another"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_operators_shell_finds_every_service(running: Running) -> None:
    services, status = shell(running, "consul catalog services; vault status -format=json").split("{", 1)
    assert set(services.split()) >= {"consul", "vault", "postgresql", "backend", "frontend"}
    assert json.loads("{" + status)["sealed"] is False


def test_the_operators_shell_may_write_secrets_and_holds_none(running: Running) -> None:
    answer = shell(
        running,
        "vault kv put secret/test-shell answer=42 > /dev/null; vault kv get -field answer secret/test-shell; "
        "vault kv metadata delete secret/test-shell > /dev/null",
    )
    assert answer == "42"
    environment = shell(running, "env; set")
    assert "VAULT_ADDR" in environment
    tokens = {"Vault's": running.lab.vault_token(), "Consul's": running.lab.secrets()["consul_management"]}
    assert [name for name, token in tokens.items() if token in environment] == []


def test_a_documented_backup_is_never_readable_by_others(running: Running, tmp_path: Path) -> None:
    """The commands of docs/operation.md as they stand there, but for the lab's name; files are looked at after each."""
    text = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    lines = text.split("## Back up and restore", 1)[1].split("```")[1].strip().splitlines()
    here = [line for line in lines if not line.startswith((".venv/", "source "))]  # on a machine; done by shell()
    look = "find . -type f -perm /077 -printf 'others may read %p\\n'"
    folder = running.lab.directory
    commands = [line.replace(".lab/lab", f"-C '{folder.parent}' {folder.name}") + f"\n{look}" for line in here]
    said = shell(running, "\n".join([f"umask 022; cd '{tmp_path}'", *commands]))
    assert "others may read" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"consul.snap", "vault.snap", "lab-keys.tar.gz"}
