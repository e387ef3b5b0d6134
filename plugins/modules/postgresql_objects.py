#!/usr/bin/python
"""Bring what a PostgreSQL server holds to a wanted state, by statements that are skipped where it is so already."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_objects
short_description: Roles, databases, rights, passwords and migrations of a PostgreSQL server in one call
description:
  - Goes through a list in order, over one connection for each database. What an entry's query already finds is
    left alone, so that a second run changes nothing.
  - "What community.postgresql lacks: a membership with ADMIN OPTION, a password that is compared with the stored
    SCRAM verifier instead of being set each time, SQL files that are run once; and one call instead of a dozen."
  - Runs on the server's host, with C(psycopg2), over the local socket.
  - A server that follows another one is left alone. What it holds comes from there.
options:
  user:
    description: Whom to log in as.
    type: str
    default: postgres
  objects:
    description: The entries.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is, for the result.
        type: str
        required: true
      database:
        description: Database to connect to.
        type: str
        default: postgres
      unless:
        description: Query; the entry is in place if its first row's first column is true. A query that fails because
          the table does not exist yet counts as false.
        type: str
      apply:
        description: Statements that put the entry in place. More than one run in one transaction.
        type: str
      role:
        description: Role whose rights O(objects[].apply) runs with, and who owns what it makes.
        type: str
      password_of:
        description: Role whose password must be O(objects[].password). It is hashed here and never sent.
        type: str
      password:
        description: The password.
        type: str
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
    details: An entry that needs an earlier one which does not exist yet counts as changed.
"""

EXAMPLES = r"""
- name: Role and database of the application
  hashistack.lab.postgresql_objects:
    objects:
      - name: role app
        unless: SELECT true FROM pg_roles WHERE rolname = 'app'
        apply: CREATE ROLE app LOGIN
      - name: password of app
        password_of: app
        password: "{{ app_password }}"
      - name: database app
        unless: SELECT true FROM pg_database WHERE datname = 'app'
        apply: CREATE DATABASE app OWNER app
  no_log: true
"""

RETURN = r"""
applied:
  description: Names of the entries that were put in place.
  type: list
  elements: str
  returned: always
"""

import base64
import hashlib
import hmac
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import psycopg2
    from psycopg2.extensions import encrypt_password, quote_ident

    PSYCOPG2_ERROR = ""
except ImportError as error:
    PSYCOPG2_ERROR = str(error)


def matches(verifier: str | None, password: str) -> bool:
    """Whether a password is the one of a SCRAM verifier, as PostgreSQL stores it (RFC 5803; ASCII passwords).

    >>> matches("SCRAM-SHA-256$4096:c2FsdA==$x:y", "secret")
    False
    """
    if not verifier or not verifier.startswith("SCRAM-SHA-256$"):
        return False
    iterations, salt = verifier.split("$")[1].split(":")
    stored = verifier.split("$")[2].split(":")[0]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(base64.b64encode(hashlib.sha256(client_key).digest()).decode(), stored)


class Server:
    """Connections to one server, one for each database that is asked for."""

    def __init__(self, user: str) -> None:
        self._user = user
        self._connections: dict[str, Any] = {}

    def connection(self, database: str) -> Any:
        """A connection in autocommit."""
        if database not in self._connections:
            connection = psycopg2.connect(user=self._user, dbname=database, connect_timeout=10)
            connection.autocommit = True
            self._connections[database] = connection
        return self._connections[database]

    def first(self, database: str, query: str, parameters: tuple[Any, ...] | None = None) -> Any:
        """The first column of a query's first row, None without one."""
        with self.connection(database).cursor() as cursor:
            cursor.execute(query, parameters)
            row = cursor.fetchone()
        return row[0] if row else None

    def execute(self, database: str, statements: str, role: str | None) -> None:
        """Run statements with a role's rights; more than one in one transaction."""
        connection = self.connection(database)
        with connection.cursor() as cursor:
            if role:
                cursor.execute(f"SET ROLE {quote_ident(role, connection)}")
            try:
                cursor.execute(statements)
            finally:
                if role:
                    cursor.execute("RESET ROLE")


def in_place(server: Server, item: dict[str, Any]) -> bool:
    """Whether an entry is as wanted."""
    if item["password_of"]:
        verifier = server.first(
            item["database"], "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (item["password_of"],)
        )
        return matches(verifier, item["password"])
    try:
        return bool(server.first(item["database"], item["unless"]))
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedObject):
        return False


def put_in_place(server: Server, item: dict[str, Any]) -> None:
    """Make an entry as wanted."""
    role = item["password_of"]
    if not role:
        server.execute(item["database"], item["apply"], item["role"])
        return
    connection = server.connection(item["database"])
    verifier = encrypt_password(item["password"], role, connection, "scram-sha-256")
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER ROLE {quote_ident(role, connection)} PASSWORD %s", (verifier,))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "user": {"type": "str", "default": "postgres"},
            "objects": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "database": {"type": "str", "default": "postgres"},
                    "unless": {"type": "str"},
                    "apply": {"type": "str"},
                    "role": {"type": "str"},
                    "password_of": {"type": "str", "no_log": False},
                    "password": {"type": "str", "no_log": True},
                },
                "required_together": [("unless", "apply"), ("password_of", "password")],
                "required_one_of": [("unless", "password_of")],
                "mutually_exclusive": [("unless", "password_of")],
            },
        },
        supports_check_mode=True,
    )
    if PSYCOPG2_ERROR:
        if module.check_mode:
            module.exit_json(changed=True, applied=[item["name"] for item in module.params["objects"]])
        module.fail_json(msg=missing_required_lib("psycopg2"))
    server = Server(module.params["user"])
    applied: list[str] = []
    for item in module.params["objects"]:
        try:
            if server.first("postgres", "SELECT pg_is_in_recovery()") or in_place(server, item):
                continue
            if not module.check_mode:
                put_in_place(server, item)
        except psycopg2.Error as error:
            if not (module.check_mode and (applied or isinstance(error, psycopg2.OperationalError))):
                module.fail_json(msg=f"{item['name']}: {str(error).strip()}", applied=applied)
        applied.append(item["name"])
    module.exit_json(changed=bool(applied), applied=applied)


if __name__ == "__main__":
    main()
