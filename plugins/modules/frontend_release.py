#!/usr/bin/python
"""Put the page's files in place as a release that is complete or not there at all."""

from __future__ import annotations

DOCUMENTATION = r"""
module: frontend_release
short_description: Release a folder of files, and make it the current one in one step
description:
  - Unpacks an archive into C(DIRECTORY/releases/HASH), where HASH follows from the files' names and contents, and
    points the symbolic link C(DIRECTORY/current) at it in one step. Nobody ever sees half of a release.
  - A release whose files were changed by hand is put right.
  - Copying the folder file by file takes a task's time for each file and changes the page while it is served.
options:
  directory:
    description: Folder of the releases and of the link C(current). Made if it is missing.
    type: path
    required: true
  archive:
    description: The files, as a gzipped tar in base64 (filter C(folder_archive)).
    type: str
    required: true
  release:
    description: Name of an earlier release to go back to; empty for what the archive holds.
    type: str
    default: ""
  keep:
    description: How many earlier releases stay, to go back to.
    type: int
    default: 2
author: HashiStack Lab
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Release the page
  frontend_release:
    directory: /opt/frontend
    archive: "{{ 'app/frontend' | project_path | folder_archive }}"
"""

RETURN = r"""
release:
  description: Name of the release that is now the current one.
  type: str
  returned: success
  sample: 3f0c9d1b2a48
previous:
  description: Name of the release that was the current one before; empty if there was none.
  type: str
  returned: success
"""

import base64
import hashlib
import io
import os
import shutil
import tarfile
import tempfile

from ansible.module_utils.basic import AnsibleModule

FILE_MODE = 0o644
FOLDER_MODE = 0o755


def unpack(archive: str) -> dict[str, bytes]:
    """Relative path to content of all files in a base64 gzipped tar. Raises ValueError for a path that leads out."""
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive)), mode="r:gz") as tar:
        for member in tar.getmembers():
            path = os.path.normpath(member.name)
            if path.startswith(("/", "..")):
                raise ValueError(f"the archive's {member.name} leads out of its folder")
            stream = tar.extractfile(member)
            if stream is not None:
                files[path] = stream.read()
    return files


def name_of(files: dict[str, bytes]) -> str:
    """The release's name: twelve hexadecimal digits that follow from the names and contents."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0{len(files[path])}\0".encode())
        digest.update(files[path])
    return digest.hexdigest()[:12]


def is_intact(folder: str, files: dict[str, bytes]) -> bool:
    """Whether a folder holds exactly these files, readable by all and writable by their owner, who is us, alone."""
    found = set()
    for parent, _folders, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, folder)
            status = os.lstat(path)
            if relative not in files or (status.st_mode & 0o7777, status.st_uid) != (FILE_MODE, os.geteuid()):
                return False
            with open(path, "rb") as stream:
                if stream.read() != files[relative]:
                    return False
            found.add(relative)
    return found == set(files)


def write(folder: str, files: dict[str, bytes]) -> None:
    """Make a folder with these files; in its place at once, when all are on disk."""
    releases = os.path.dirname(folder)
    os.makedirs(releases, mode=FOLDER_MODE, exist_ok=True)
    temporary = tempfile.mkdtemp(dir=releases, prefix=".")
    try:
        for path, content in files.items():
            target = os.path.join(temporary, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(target, FILE_MODE)
        for parent, _folders, _names in os.walk(temporary):
            os.chmod(parent, FOLDER_MODE)
        if os.path.lexists(folder):
            aside = tempfile.mkdtemp(dir=releases, prefix=".")
            os.rename(folder, os.path.join(aside, "old"))
            os.rename(temporary, folder)
            shutil.rmtree(aside)
        else:
            os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def link(path: str, target: str) -> None:
    """Let a symbolic link lead elsewhere, in one step."""
    temporary = f"{path}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)


def superfluous(releases: str, current: str, keep: int) -> list[str]:
    """Releases beyond the current one and the newest ``keep`` others, and what an interrupted run left."""
    names = os.listdir(releases) if os.path.isdir(releases) else []
    leftovers = [name for name in names if name.startswith(".")]
    others = [name for name in names if not name.startswith(".") and name != current]
    others.sort(key=lambda name: os.stat(os.path.join(releases, name)).st_mtime, reverse=True)
    return leftovers + others[keep:]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "archive": {"type": "str", "required": True},
            "release": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 2},
        },
        supports_check_mode=True,
    )
    directory: str = module.params["directory"]
    releases = os.path.join(directory, "releases")
    current = os.path.join(directory, "current")
    try:
        files = unpack(module.params["archive"])
    except (ValueError, tarfile.TarError, OSError) as error:
        module.fail_json(msg=f"The archive cannot be read: {error}")
    wanted: str = module.params["release"] or name_of(files)
    folder = os.path.join(releases, wanted)
    previous = os.path.basename(os.readlink(current)) if os.path.islink(current) else ""

    if module.params["release"]:
        if not os.path.isdir(folder):
            there = ", ".join(sorted(os.listdir(releases))) if os.path.isdir(releases) else ""
            module.fail_json(msg=f"There is no release {wanted} in {releases}. There are: {there or 'none'}.")
        intact = True
    else:
        intact = is_intact(folder, files)
    old = superfluous(releases, wanted, module.params["keep"])
    changed = not intact or previous != wanted or bool(old)
    if changed and not module.check_mode:
        if not intact:
            write(folder, files)
        if previous != wanted:
            link(current, os.path.join("releases", wanted))
        for name in superfluous(releases, wanted, module.params["keep"]):
            shutil.rmtree(os.path.join(releases, name))
    result = {
        "changed": changed,
        "release": wanted,
        "previous": previous,
        "diff": {"before": f"{previous}\n", "after": f"{wanted}\n"},
    }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
