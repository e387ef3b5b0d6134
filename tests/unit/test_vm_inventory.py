"""The inventory that is read from Terraform's output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from plugins.inventory import lab_terraform

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = {
    "lab": {
        "sensitive": False,
        "type": "dynamic",
        "value": {
            "key": "/lab/.lab/terraform/ssh/id_ed25519",
            "machines": {
                "backend-1": {"group": "backend", "index": 101},
                "control-1": {"group": "control", "index": 11},
                "database-1": {"group": "database", "index": 20},
                "frontend-1": {"group": "frontend", "index": 21},
            },
            "name": "terraform",
            "network": "10.98.7.0/24",
            "user": "lab",
        },
    },
    "page": {"sensitive": False, "type": ["tuple", ["string"]], "value": ["https://10.98.7.21"]},
}


def test_output_is_read() -> None:
    lab = lab_terraform.parse(json.dumps(OUTPUT))
    assert lab["machines"]["backend-1"] == {"group": "backend", "index": 101}


def test_no_machines_is_a_sentence() -> None:
    with pytest.raises(lab_terraform.OutputError, match="make terraform-up"):
        lab_terraform.parse("{}")


def test_no_json_is_a_sentence() -> None:
    with pytest.raises(lab_terraform.OutputError, match="printed no JSON"):
        lab_terraform.parse("Warning: ...")


def test_another_lab_name_is_refused() -> None:
    lab_terraform.check_name({"name": "terraform"}, "")
    lab_terraform.check_name({"name": "terraform"}, "terraform")
    with pytest.raises(lab_terraform.OutputError, match="TF_WORKSPACE"):
        lab_terraform.check_name({"name": "terraform"}, "other")


def test_the_program_that_can_read_the_state_is_asked() -> None:
    asked: list[str] = []

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        asked.append(command[0])
        return (0, json.dumps(OUTPUT), "") if command[0] == "tofu" else (1, "", "state was created by a newer version")

    assert lab_terraform.read(Path("module"), ["terraform", "tofu"], run)["name"] == "terraform"
    assert asked == ["terraform", "tofu"]


def test_the_tofu_of_make_vm_prepare_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert lab_terraform.programs(None, tmp_path) == []
    tofu = tmp_path / ".lab/tofu"
    tofu.parent.mkdir()
    tofu.touch(mode=0o755)
    assert lab_terraform.programs(None, tmp_path) == lab_terraform.programs("tofu", tmp_path) == [str(tofu)]
    assert lab_terraform.programs("terraform", tmp_path) == []


def test_no_program_is_a_sentence() -> None:
    with pytest.raises(lab_terraform.OutputError, match="LAB_TERRAFORM"):
        lab_terraform.read(Path("module"), [])


def test_the_provider_that_was_built_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", "/her/own")
    ask = ["sh", "-c", "echo $TF_CLI_CONFIG_FILE"]
    settings = tmp_path / "terraform.rc"
    assert lab_terraform.execute(ask, settings)[1] == "/her/own\n"
    settings.touch()
    assert lab_terraform.execute(ask, settings)[1] == f"{settings}\n"


def test_ansible_sees_the_machines(tmp_path: Path) -> None:
    """With the real plugin loader, and a program that prints a recorded output."""
    program = tmp_path / "tofu"
    wanted = f'[ "$1" = "-chdir={ROOT / "terraform"}" ] || {{ echo "asked for $1" >&2; exit 1; }}'
    program.write_text(f"#!/bin/sh\n{wanted}\ncat <<'END'\n{json.dumps(OUTPUT)}\nEND\n")
    program.chmod(0o755)
    environment = {**os.environ, "LAB_TERRAFORM": str(program), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    environment.pop("LAB_NAME", None)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-inventory"), "-i", "inventories/terraform", "--list"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert sorted(listed["lab"]["children"]) == ["backend", "control", "database", "frontend"]
    assert listed["backend"]["hosts"] == ["backend-1"]
    variables = listed["_meta"]["hostvars"]["backend-1"]
    assert (variables["lab_index"], variables["lab_machines"]) == (101, "terraform")
    # Ansible marks what a plugin says as data, never a template.
    assert variables["ansible_user"] in ("lab", {"__ansible_unsafe": "lab"})
    assert variables["lab_network"] in ("10.98.7.0/24", {"__ansible_unsafe": "10.98.7.0/24"})
