"""What the shipped group_vars make of options, as Ansible sees them for an inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tools import role_readme
from tools.lab import ROOT

SHIPPED = ROOT / "inventories" / "group_vars"
LARGEST = 50
"""Backends of Terraform's largest lab."""
# Vault's connections, PostgreSQL's reserve for the superuser, and some for people.
OTHERS = 4 + 3 + 5


def inventory(folder: Path, backends: int) -> Path:
    """A containers inventory with so many backends."""
    source = ROOT / "inventories" / "containers"
    hosts = yaml.safe_load((source / "hosts.yml").read_text(encoding="utf-8"))
    names = {f"backend-{number}": {"lab_index": 100 + number} for number in range(1, backends + 1)}
    hosts["lab"]["children"]["backend"]["hosts"] = names
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    for name in ("connection.yml", "group_vars"):
        (folder / name).symlink_to(source / name)
    return folder


def ask(inventory: Path, host: str, expression: str) -> Any:
    """What an expression is for a host."""
    words = [str(Path(sys.executable).parent / "ansible"), "-i", str(inventory), host, "-m", "debug"]
    done = subprocess.run(
        [*words, "-a", json.dumps({"msg": "{{ " + expression + " }}"})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "LAB_NAME": "unit"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.partition("=>")[2])["msg"]


def connections(folder: Path, backends: int) -> tuple[int, int]:
    """How many connections the database takes, and how many the pools of so many backends open."""
    folder.mkdir()
    taken, opened = ask(
        inventory(folder, backends),
        "database-1",
        "[postgresql_max_connections, groups['backend'] | map('extract', hostvars, 'backend_pool_size') | sum]",
    )
    return int(taken), int(opened)


def test_the_database_takes_the_pools_of_all_backends(tmp_path: Path) -> None:
    """And one backend more does not restart it, up to the largest lab."""
    few, _ = connections(tmp_path / "few", 2)
    many, opened = connections(tmp_path / "many", LARGEST)
    assert few == many >= opened + OTHERS
    assert opened == LARGEST * role_readme.load(ROOT / "roles/backend/defaults/main.yml")["backend_pool_size"]
    more, opened = connections(tmp_path / "more", 150)
    assert more >= opened + OTHERS
