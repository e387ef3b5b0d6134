"""What the shipped group_vars make of options, as Ansible sees them for an inventory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.options import test_options
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


def shipped(*names: str) -> set[str]:
    """The names that files of the shipped group_vars set."""
    return {name for file in names for path in SHIPPED.glob(file) for name in role_readme.load(path)}


def test_each_option_is_set_to_another_value_in_a_test_that_sees_it() -> None:
    """By tests/options, by the lab's own settings, its playbooks or another role, with which every test works."""
    options = {
        name: option
        for role in role_readme.roles()
        for name, option in role_readme.load(role / "meta/argument_specs.yml")["argument_specs"]["main"][
            "options"
        ].items()
    }
    callers = [*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "roles").glob("*/tasks/*.yml")]
    text = "".join(path.read_text(encoding="utf-8") for path in callers)
    given = {name for name in options if re.search(rf"\b{name}:\s", text)}
    seen = {*test_options.SEEN, *test_options.OUTPUT, *test_options.RELEASES}
    optional = {name for name, option in options.items() if not option.get("required")}
    assert optional - seen - given - shipped("lab/*.yml") == set()
    values = test_options.GIVEN | test_options.EMULATED
    assert {name for name in values if name in options and values[name] == options[name].get("default")} == set()
    assert set(values) - seen == set(), "nothing looks at these"
    assert {name for name in test_options.SEEN if name not in values} == set(), "nothing sets these"


def test_nothing_that_emulated_machines_get_is_lost() -> None:
    """What group_vars/lab sets wins, by the group's name, and a user's own dictionary would take another's place."""
    emulated = role_readme.load(SHIPPED / "emulated.yml")
    assert set(emulated) & shipped("lab/*.yml") == set()
    assert [name for name, value in emulated.items() if isinstance(value, dict)] == []
