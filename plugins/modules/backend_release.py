#!/usr/bin/python
"""Bundle a Python application and its wheels into one archive per Python version, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backend_release
short_description: Bundle a Python application for hosts that have no index
description:
  - Builds the wheel of a pure-Python project (with C(flit_core)) and packs it with the wheels that its
    C(requirements.txt) locks, one archive for each version of Python.
  - The release is named after the project's version and a hash of all that goes into it, so that the same source
    gives the same name, and an archive that exists is not made again.
options:
  source:
    description: The project's folder, with C(pyproject.toml), C(requirements.txt) and C(src/).
    type: path
    required: true
  wheels:
    description: Folder with the locked wheels.
    type: path
    required: true
  directory:
    description: Folder for the archives.
    type: path
    required: true
  pythons:
    description: Versions of Python on the hosts, such as V(3.11).
    type: list
    elements: str
    required: true
author: HashiStack Lab
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Bundle the backend
  backend_release:
    source: app/backend
    wheels: "{{ lab_wheels }}"
    directory: "{{ lab_directory }}/backend"
    pythons: ["3.11"]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
release:
  description: Name of the release, version and hash.
  type: str
  returned: always
  sample: 1.0.0-5f1c2ab4
archives:
  description: Path of the archive for each version of Python. It unpacks into C(RELEASE/).
  type: dict
  returned: always
"""

import hashlib
import importlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

KEEP = 3


class ReleaseError(Exception):
    """What is wrong and what to do, in a sentence."""


def source_files(source: Path) -> list[Path]:
    """The files that make the release, in a fixed order."""
    files = [source / "pyproject.toml", source / "requirements.txt"]
    files += [path for path in source.glob("src/**/*") if path.is_file() and "__pycache__" not in path.parts]
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise ReleaseError(f"{', '.join(missing)} is missing: 'source' must be a project's folder.")
    return sorted(path for path in files if ".egg-info" not in str(path))


def project(source: Path) -> tuple[str, str]:
    """The project's name and version, the latter from pyproject.toml or from the package (flit's dynamic version)."""
    table = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if "version" in table:
        return table["name"], table["version"]
    for path in sorted(source.glob("src/*/__init__.py")):
        found = re.search(r'^__version__ = "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return table["name"], found[1]
    raise ReleaseError(f"{source} names no version, neither in pyproject.toml nor as __version__ in its package.")


def release_name(source: Path) -> str:
    """Version and hash of the source."""
    digest = hashlib.sha256()
    for path in source_files(source):
        digest.update(f"{path.relative_to(source)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return f"{project(source)[1]}-{digest.hexdigest()[:8]}"


def fits(wheel: str, python: str) -> bool:
    """Whether a wheel's tags say that it runs on a version of CPython on Linux.

    >>> fits("a-1-py3-none-any.whl", "3.11"), fits("a-1-cp313-cp313-manylinux2014_x86_64.whl", "3.11")
    (True, False)
    """
    interpreters, abi, _platform = wheel.removesuffix(".whl").split("-")[-3:]
    tag = "cp" + python.replace(".", "")
    return "py3" in interpreters.split(".") or tag in interpreters.split(".") or abi == "abi3"


def locked_hashes(requirements: str) -> set[str]:
    """The SHA-256 sums that a locked requirements.txt names."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", requirements))


def choose_wheels(folder: Path, requirements: str, python: str) -> list[Path]:
    """The wheels that the requirements lock and that fit; raises ReleaseError if one is not there."""
    wanted = locked_hashes(requirements)
    chosen = [
        path
        for path in sorted(folder.glob("*.whl"))
        if fits(path.name, python) and hashlib.sha256(path.read_bytes()).hexdigest() in wanted
    ]

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    names = {plain(match) for match in re.findall(r"^([A-Za-z0-9._-]+)==", requirements, re.MULTILINE)}
    missing = sorted(names - {plain(path.name.split("-")[0]) for path in chosen})
    if missing:
        raise ReleaseError(
            f"{folder} has no locked wheel for Python {python} of: {', '.join(missing)}. "
            "Prepare the wheels again ('make prepare')."
        )
    return chosen


def build_wheel(source: Path, directory: Path) -> Path:
    """Build the project's own wheel, the same bytes from the same source."""
    try:
        buildapi = importlib.import_module("flit_core.buildapi")
    except ImportError as error:
        raise ReleaseError(f"The controller's Python lacks flit_core, which builds the wheel: {error}") from error
    before = os.getcwd()
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1577836800")
    try:
        os.chdir(source)
        return directory / str(buildapi.build_wheel(str(directory)))
    finally:
        os.chdir(before)


def write_archive(archive: Path, release: str, wheels: list[Path], requirements: str) -> None:
    """Pack wheels and requirements below a folder named after the release; appears complete or not at all."""
    draft = archive.with_suffix(".part")
    with tarfile.open(draft, "w") as tar:
        entries = [(path.name, path.read_bytes()) for path in wheels] + [("requirements.txt", requirements.encode())]
        for name, content in entries:
            member = tarfile.TarInfo(f"{release}/{name}")
            member.size, member.mode, member.mtime = len(content), 0o644, 1577836800
            tar.addfile(member, io.BytesIO(content))
    draft.replace(archive)


def make_release(source: Path, wheels: Path, directory: Path, pythons: list[str], *, check: bool) -> dict[str, Any]:
    """Make the archives that are missing."""
    release = release_name(source)
    archives = {python: directory / f"{release}-cp{python.replace('.', '')}.tar" for python in pythons}
    missing = [python for python, path in archives.items() if not path.exists()]
    if missing and not check:
        directory.mkdir(parents=True, exist_ok=True)
        locked = (source / "requirements.txt").read_text(encoding="utf-8")
        name, version = project(source)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            # A copy: nothing that lies in the source's folder by chance comes along, nothing is written there.
            copy = Path(scratch) / "source"
            for path in source_files(source):
                target = copy / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            own = build_wheel(copy, Path(scratch))
            digest = hashlib.sha256(own.read_bytes()).hexdigest()
            requirements = f"{locked}{name}=={version} --hash=sha256:{digest}\n"
            for python in missing:
                chosen = choose_wheels(wheels, locked, python)
                write_archive(archives[python], release, [*chosen, own], requirements)
        keep_newest(directory, set(archives.values()))
    return {
        "changed": bool(missing),
        "release": release,
        "archives": {python: str(path) for python, path in archives.items()},
    }


def keep_newest(directory: Path, needed: set[Path]) -> None:
    """Remove archives beyond the newest, but none that is needed."""
    others = sorted(set(directory.glob("*.tar")) - needed, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEEP:]:
        path.unlink()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "wheels": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "pythons": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        result = make_release(
            Path(options["source"]),
            Path(options["wheels"]),
            Path(options["directory"]),
            sorted(set(options["pythons"])),
            check=module.check_mode,
        )
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
