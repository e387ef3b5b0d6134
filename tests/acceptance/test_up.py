"""The lab comes up, and says that it is healthy."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.running import Run, Running
from tools.lab import ROOT


def test_the_lab_comes_up(first_run: Run) -> None:
    first_run.require()


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


def test_the_operators_shell_finds_every_service(running: Running) -> None:
    """`source .lab/NAME/env; consul catalog services` and `vault status`, as an operator would."""
    script = f"source '{running.lab.directory}/env'; consul catalog services; vault status -format=json"
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    names = done.stdout.split("{", 1)[0].split()
    assert set(names) >= {"consul", "vault", "postgresql", "backend", "frontend"}
    assert json.loads("{" + done.stdout.split("{", 1)[1])["sealed"] is False
