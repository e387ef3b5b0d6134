"""Filters that turn SQL files and hosts into the objects that the modules take."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError


def sql_objects(folder: str) -> list[dict[str, Any]]:
    """The entries for ``postgresql_objects`` of a folder's SQL files, in the order of their names.

    The folder has the database's name. A file's first line is a comment with the entry's name, its first statement, up
    to an empty line, asks whether it is in place, and the rest puts it in place.
    """
    entries = []
    for path in sorted(Path(folder).glob("*.sql")):
        question, _, apply = path.read_text(encoding="utf-8").partition("\n\n")
        name, _, unless = question.removeprefix("-- ").partition("\n")
        entries.append({"name": name, "database": Path(folder).name, "unless": unless, "apply": apply})
    return entries


def migration_objects(folder: str, database: str, owner: str) -> list[dict[str, Any]]:
    """The entries for ``postgresql_objects`` that run each of a folder's SQL files once, in the order of their names.

    Raises:
        AnsibleFilterError: a file's name is not such as ``0001_notes.sql``.
    """
    entries = []
    for path in sorted(Path(folder).glob("*.sql")):
        name = path.stem
        if not re.fullmatch(r"[0-9]{4}_[a-z0-9_]+", name):
            raise AnsibleFilterError(f"{path}: name the file such as 0002_what_it_does.sql.")
        statements = path.read_text(encoding="utf-8")
        entries.append(
            {
                "name": f"migration {name}",
                "database": database,
                "role": owner,
                "unless": f"SELECT true FROM schema_migrations WHERE name = '{name}'",
                "apply": f"{statements}\nINSERT INTO schema_migrations (name) VALUES ('{name}');\n",
            }
        )
    return entries


def database_role(host: str, data: dict[str, Any]) -> dict[str, Any]:
    """The entry for ``vault_objects`` that lets a host have database users.

    >>> database_role("backend-1", {})["path"]
    'database/roles/backend-1'
    """
    return {"path": f"database/roles/{host}", "data": data}


class FilterModule:
    """Offers the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filter name to function."""
        return {"database_role": database_role, "migration_objects": migration_objects, "sql_objects": sql_objects}
