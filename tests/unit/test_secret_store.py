"""Secrets are generated once, and never lost."""

from __future__ import annotations

import base64
import stat
import uuid
from pathlib import Path

import pytest
from ansible_collections.hashistack.lab.plugins.module_utils import files

from plugins.modules.secret_store import update


def test_kinds() -> None:
    made = update({}, {"token": "uuid", "key": "key32", "word": "password"}, [])
    assert uuid.UUID(made["token"]).version == 4
    assert len(base64.b64decode(made["key"])) == 32
    assert len(made["word"]) == 32


def test_what_exists_stays_and_what_is_absent_goes() -> None:
    kept = {"a": "1", "b": "2"}
    assert update(kept, {"a": "uuid"}, ["b"]) == {"a": "1"}
    assert kept == {"a": "1", "b": "2"}


def test_a_private_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep/secrets.json"
    files.write_private(str(path), b"first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def full_disk(_descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        files.write_private(str(path), b"second")
    assert path.read_bytes() == b"first"
    assert [entry.name for entry in path.parent.iterdir()] == ["secrets.json"]
