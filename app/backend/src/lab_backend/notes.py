"""The notes: what may be written, and the statements. Each is one statement and may safely run twice."""

from __future__ import annotations

import re
import unicodedata
import uuid
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from lab_backend.database import Pool, read

TEXT_LIMIT = 500
LIST_LIMIT = 200
# As openapi.json describes it; Python's own reading takes more, such as braces.
_KEY = re.compile("-?".join(f"[0-9a-fA-F]{{{count}}}" for count in (8, 4, 4, 4, 12)))
_COLUMNS = "id, text, instance, created_at"


class Invalid(ValueError):
    """What was sent cannot become a note; the text says why, for the one who sent it."""


def clean_text(document: object) -> str:
    """The note's text out of the request's document. Raises Invalid."""
    if not isinstance(document, dict):
        raise Invalid('send a JSON object such as {"text": "hello"}')
    unknown = sorted(set(document) - {"text"})
    if unknown:
        raise Invalid("unknown field: " + ", ".join(str(name)[:50] for name in unknown[:5]))
    text = document.get("text")
    if not isinstance(text, str):
        raise Invalid("'text' must be a string")
    if len(text) > TEXT_LIMIT:
        raise Invalid(f"'text' must not be longer than {TEXT_LIMIT} characters")
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise Invalid("'text' must not be empty")
    if any(unicodedata.category(char) in {"Cc", "Cs"} and char not in "\n\t" for char in text):
        raise Invalid("'text' must not hold control characters")
    return text


def clean_key(header: str | None) -> uuid.UUID:
    """The key that makes two requests the same one: what the client sent, or a new one. Raises Invalid."""
    if header is None:
        return uuid.uuid4()
    if not _KEY.fullmatch(header):
        raise Invalid("Idempotency-Key must be a UUID, or 32 hexadecimal digits")
    return uuid.UUID(header)


def clean_limit(argument: str | None) -> int:
    """How many notes to list. Raises Invalid."""
    if argument is None:
        return LIST_LIMIT
    if not (argument.isascii() and argument.isdigit() and len(argument) <= 4 and 1 <= int(argument) <= LIST_LIMIT):
        raise Invalid(f"'limit' must be a number from 1 to {LIST_LIMIT}")
    return int(argument)


def list_notes(pool: Pool, replica: Pool, limit: int, timeout: float) -> tuple[list[dict[str, Any]], int]:
    """The newest notes, newest first, and how many there are in all; a replica's while the pool's server is away."""

    def work(cursor: Cursor, _attempt: int) -> tuple[list[dict[str, Any]], int]:
        cursor.execute(
            f"SELECT {_COLUMNS}, count(*) OVER () FROM notes ORDER BY id DESC LIMIT %s",  # noqa: S608 a constant
            (limit,),
        )
        rows = cursor.fetchall()
        return [_as_json(row) for row in rows], rows[0][4] if rows else 0

    return read(pool, replica, work, timeout)


def create_note(pool: Pool, text: str, key: uuid.UUID, instance: str, timeout: float) -> dict[str, Any]:
    """Write a note and return it; a second time with the same key only returns it."""

    def work(cursor: Cursor, _attempt: int) -> dict[str, Any]:
        cursor.execute(
            "INSERT INTO notes (text, instance, request_key) VALUES (%s, %s, %s)"  # noqa: S608 a constant
            " ON CONFLICT (request_key) DO UPDATE SET request_key = excluded.request_key"
            f" RETURNING {_COLUMNS}",
            (text, instance, str(key)),
        )
        row = cursor.fetchone()
        assert row is not None  # noqa: S101 RETURNING gives the row, new or not
        return _as_json(row)

    return pool.run(work, timeout, writes=True)


def delete_note(pool: Pool, note_id: int, timeout: float) -> bool:
    """Delete a note; False if there was none. A repetition after a lost connection counts as done."""

    def work(cursor: Cursor, attempt: int) -> bool:
        cursor.execute("DELETE FROM notes WHERE id = %s", (note_id,))
        return cursor.rowcount > 0 or attempt > 0

    return pool.run(work, timeout, writes=True)


def _as_json(row: tuple[Any, ...]) -> dict[str, Any]:
    return {"id": row[0], "text": row[1], "instance": row[2], "created_at": row[3].isoformat()}
