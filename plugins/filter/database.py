"""Filters that turn SQL files and hosts into the objects that the modules take."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError


def migration_object(path: str, database: str, owner: str) -> dict[str, Any]:
    """The entry for ``postgresql_objects`` that runs a SQL file once.

    Raises:
        AnsibleFilterError: the file's name is not such as ``0001_notes.sql``.
    """
    name = Path(path).stem
    if not re.fullmatch(r"[0-9]{4}_[a-z0-9_]+", name):
        raise AnsibleFilterError(f"{path}: name the file such as 0002_what_it_does.sql.")
    statements = Path(path).read_text(encoding="utf-8")
    return {
        "name": f"migration {name}",
        "database": database,
        "role": owner,
        "unless": f"SELECT true FROM schema_migrations WHERE name = '{name}'",
        "apply": f"{statements}\nINSERT INTO schema_migrations (name) VALUES ('{name}');\n",
    }


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
        return {"migration_object": migration_object, "database_role": database_role}
