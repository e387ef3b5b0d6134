"""A wrong inventory ends with every problem in a sentence, before anything is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.running import Running
from tools.lab import ROOT


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """An inventory with several mistakes at once."""
    shipped = yaml.safe_load((ROOT / "inventories" / "containers" / "hosts.yml").read_text(encoding="utf-8"))
    children = shipped["lab"]["children"]
    children["control"]["hosts"].pop("control-3")
    children["database"]["hosts"] |= {f"database-{number}": {"lab_index": 298 + number} for number in (2, 3, 4)}
    children["frontend"]["hosts"] = {}
    children["backend"]["hosts"]["backend-2"] = {
        "lab_index": 101,
        "backend_db_credentails": "kv",
        "backend_db_credentials": "kvv",
        "postgresql_shared_buffers": "64MB",
    }
    children["control"]["vars"] = {"consul_domain": "other"}
    copy = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventories" / "containers", copy)
    (copy / "hosts.yml").write_text(yaml.safe_dump(shipped), encoding="utf-8")
    return copy


@pytest.mark.parametrize("arguments", [(), ("--check",), ("--limit", "backend-1"), ("--tags", "frontend")])
def test_all_problems_are_said_at_once(running: Running, broken: Path, arguments: tuple[str, ...]) -> None:
    run = running.playbook("site.yml", *arguments, inventory=[str(broken)], extra=False)
    assert run.code != 0
    for sentence in (
        "Group 'control' has 2 machines",
        "Group 'database' has 4 machines",
        "Group 'frontend' is empty",
        "lab_index is 300",
        "lab_index 101 is backend-1's already",
        "Unknown option 'backend_db_credentails' (set for backend-2): did you mean 'backend_db_credentials'?",
        "backend_db_credentials is 'kvv'",
        "the whole lab has one",
        "postgresql_shared_buffers has no effect on backend-2: role postgresql runs on",
        "consul_domain has no effect in the vars of group 'control'",
    ):
        assert sentence in run.output, run.output
    assert "PLAY [Machines]" not in run.output


def test_an_empty_inventory_is_no_success(running: Running) -> None:
    run = running.playbook("site.yml", inventory=["/dev/null"], extra=False)
    assert run.code != 0
    assert "Group 'control' is empty" in run.output


def test_removing_a_control_machine_is_refused(running: Running) -> None:
    run = running.playbook("playbooks/remove.yml", "-e", "machine=control-1")
    assert run.code != 0
    assert "one at a time" in run.output


def test_removing_without_a_name_is_refused(running: Running) -> None:
    run = running.playbook("playbooks/remove.yml")
    assert run.code != 0
    assert "-e machine=" in run.output


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("backend", "backend is a group"),
        ("all", "all is a group"),
        ("backend-1,backend-2", "exactly one machine"),
        ("backend-*", "exactly one machine"),
        ("administrator", "administrator is no machine"),
        ("elsewhere-1", "elsewhere-1 is no machine of the lab"),
    ],
)
def test_removing_takes_one_machine_only(running: Running, tmp_path: Path, name: str, sentence: str) -> None:
    """In check mode, since a run that is not refused would take the lab's machines away."""
    other = tmp_path / "other.yml"
    other.write_text(yaml.safe_dump({"elsewhere": {"hosts": {"elsewhere-1": {}}}}), encoding="utf-8")
    inventory = [*running.inventory, str(other)]
    run = running.playbook("playbooks/remove.yml", "-e", f"machine={name}", "--check", inventory=inventory)
    assert run.code != 0, run.output[-3000:]
    assert sentence in run.output
    assert "PLAY [Remove]" not in run.output


def test_removing_what_never_was_changes_nothing(running: Running) -> None:
    run = running.playbook("playbooks/remove.yml", "-e", "machine=backend-77").require()
    assert run.changed == {}
    assert "nothing to remove" in run.output.lower()


def test_a_password_that_no_backend_uses_stays(running: Running) -> None:
    """In check mode, since a run that is not refused would change it. Somebody may have put a secret of that name."""
    run = running.playbook("playbooks/rotate_database_password.yml", "--check")
    assert run.code != 0, run.output[-3000:]
    assert "No backend uses secret/db" in run.output
