"""The database's SQL files become objects that are put in place once."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter.database import migration_objects, sql_objects
from tools.lab import ROOT

FILES = ROOT / "playbooks/files/database"


@pytest.mark.parametrize("database", ["postgres", "lab"])
def test_each_file_asks_and_then_puts_in_place(database: str) -> None:
    objects = sql_objects(str(FILES / database))
    assert [entry["database"] for entry in objects] == [database] * len(list((FILES / database).glob("*.sql")))
    for entry in objects:
        assert entry["unless"].startswith("SELECT ")
        assert entry["unless"].count(";") == 1
        assert entry["apply"].strip().endswith(";")
        assert entry["name"][0].islower(), entry


def test_a_migration_has_a_number_and_a_name(tmp_path: Path) -> None:
    (tmp_path / "0001_notes.sql").write_text("CREATE TABLE notes ();")
    (entry,) = migration_objects(str(tmp_path), "lab", "lab_owner")
    assert entry["name"] == "migration 0001_notes"
    (tmp_path / "notes.sql").touch()
    with pytest.raises(AnsibleFilterError, match="0002_what_it_does"):
        migration_objects(str(tmp_path), "lab", "lab_owner")
