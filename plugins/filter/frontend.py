"""Filter that packs the page for the frontend_release module."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def folder_archive(folder: str) -> str:
    """A folder of the controller as a gzipped tar in base64; the same bytes for the same names and contents.

    Hidden files stay out. Raises FileNotFoundError for a folder that does not exist or holds no file.
    """
    root = Path(folder)
    paths = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    paths = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    if not paths:
        raise FileNotFoundError(f"there is no file in {folder}")
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in paths:
            content = (root / path).read_bytes()
            member = tarfile.TarInfo(path.as_posix())
            member.size = len(content)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(content))
    return base64.b64encode(gzip.compress(raw.getvalue(), mtime=0)).decode("ascii")


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filter name to function."""
        return {"folder_archive": folder_archive}
