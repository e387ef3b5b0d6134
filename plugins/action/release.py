"""Pack folders of the controller as a release, and send it to the hosts that do not have it.

Packed once for all hosts of a run, in Ansible's own temporary folder. A host that has the release costs one module run.
"""

from __future__ import annotations

import fcntl
import gzip
import tarfile
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible_collections.hashistack.lab.plugins.modules.release import FILE_MODE, digest


def collect(folders: list[str]) -> dict[str, str]:
    """Relative path to path of all files in some folders, but for hidden ones and Python's caches.

    Raises FileNotFoundError for a folder that does not exist or holds no file.
    """
    found: dict[str, str] = {}
    for folder in map(Path, folders):
        paths = [path for path in folder.rglob("*") if path.is_file()]
        if not paths:
            raise FileNotFoundError(f"There is no file in {folder}.")
        found |= {path.relative_to(folder).as_posix(): str(path) for path in paths}
    return {name: path for name, path in found.items() if not stays_out(name)}


def stays_out(name: str) -> bool:
    """Whether a file lies there by chance."""
    return any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))


def pack(files: dict[str, str], archive: Path) -> None:
    """Write a gzipped tar, the same bytes for the same names and contents, unless another process has done so."""
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            return
        draft = archive.with_suffix(".part")
        with (
            draft.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as stream,
            tarfile.open(fileobj=stream, mode="w") as tar,
        ):
            for name, path in sorted(files.items()):
                member = tarfile.TarInfo(name)
                member.size, member.mode = Path(path).stat().st_size, FILE_MODE
                with Path(path).open("rb") as content:
                    tar.addfile(member, content)
        draft.rename(archive)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Task arguments and what is returned: see the module of the same name."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("directory", "source", "version", "name", "keep"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Release."""
        super().run(tmp, task_vars)
        options = dict(self._task.args)
        source, version, earlier = (options.pop(option, "") for option in ("source", "version", "name"))
        try:
            files = {} if earlier else collect(source)
        except FileNotFoundError as error:
            return {"failed": True, "msg": f"{error} What the lab brings along itself is made by 'make prepare'."}
        name = options["name"] = earlier or f"{version}{version and '-'}{digest(files)}"
        result: dict[str, Any] = self._execute_module("hashistack.lab.release", {**options}, task_vars=task_vars)
        if result.get("intact", True):
            return result
        if earlier:
            known = name in result["there"]
            wrong = "was changed by hand, or made by an earlier kind of lab" if known else "is not there"
            others = ", ".join(other for other in result["there"] if other != name) or "none"
            where = options["directory"]
            return {"failed": True, "msg": f"The release {name} {wrong}. Others in {where}/releases: {others}."}
        if self._task.check_mode:
            return result
        archive = Path(constants.DEFAULT_LOCAL_TMP) / f"release-{name}.tar.gz"
        pack(files, archive)
        options["archive"] = self._transfer_file(str(archive), f"{self._make_tmp_path()}/{archive.name}")
        done: dict[str, Any] = self._execute_module("hashistack.lab.release", {**options}, task_vars=task_vars)
        return done
