#!/usr/bin/python
"""Put files in place as a release that is complete or not there at all, and make it the current one in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Release folders of the controller, and switch to the release in one step
description:
  - Brings the files of some folders to C(DIRECTORY/releases/NAME), where NAME follows from their names and contents,
    and points the symbolic link C(DIRECTORY/current) at it in one step. Nobody ever sees half of a release.
  - The action plugin of the same name packs them, once for all hosts, and sends them only to a host that has no such
    release, or one that was changed by hand, which is put right.
options:
  directory:
    description: Folder of the releases and of the link C(current). Made if it is missing.
    type: path
    required: true
  source:
    description: Folders of the controller whose contents make the release. Hidden files and C(__pycache__) stay out.
    type: list
    elements: path
  version:
    description: Goes before the hash in the release's name.
    type: str
    default: ""
  name:
    description: Name of an earlier release to go back to; empty for what the folders hold.
    type: str
    default: ""
  keep:
    description: How many releases that were current before stay, to go back to.
    type: int
    default: 2
  archive:
    description: Set by the action plugin, the host's path of the packed files; without it nothing is unpacked.
    type: path
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Release the page
  hashistack.lab.release:
    directory: /opt/frontend
    source: ["{{ 'app/frontend' | project_path }}"]
"""

RETURN = r"""
name:
  description: Name of the release that is now the current one.
  type: str
  returned: success
  sample: 1.0.0-3f0c9d1b2a48
previous:
  description: Name of the release that was the current one before; empty if there was none.
  type: str
  returned: success
intact:
  description: Whether the release is there, as its name says.
  type: bool
  returned: success
there:
  description: Names of the releases that were there.
  type: list
  returned: success
"""

import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile

from ansible.module_utils.basic import AnsibleModule

FILE_MODE = 0o644


def digest(files: dict[str, str]) -> str:
    """Twelve hexadecimal digits that follow from the names and contents of files (relative path to path)."""
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        with open(path, "rb") as stream:
            content = stream.read()
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()[:12]


def is_intact(folder: str, name: str) -> bool:
    """Whether a folder holds what its release's name says, readable by all and writable by its owner, us, alone."""
    files = {}
    for parent, _folders, names in os.walk(folder):
        for path in (os.path.join(parent, each) for each in names):
            status = os.lstat(path)
            if (status.st_mode, status.st_uid) != (stat.S_IFREG | FILE_MODE, os.geteuid()):
                return False
            files[os.path.relpath(path, folder)] = path
    return bool(files) and name.endswith(digest(files))


def unpack(archive: str, folder: str) -> None:
    """Make a release of a tar archive; in its place at once, when all is on disk.

    Raises ValueError if the archive does not hold what the release's name says.
    """
    releases, name = os.path.split(folder)
    os.makedirs(releases, exist_ok=True)
    work = tempfile.mkdtemp(dir=releases, prefix=".")
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = os.path.normpath(os.path.join(work, member.name))
                stream = tar.extractfile(member)
                if stream is None or not path.startswith(f"{work}/"):
                    raise ValueError(f"the archive's {member.name} is no file within its folder")
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "xb") as target:
                    shutil.copyfileobj(stream, target)
                os.chmod(path, FILE_MODE)
        if not is_intact(work, name):
            raise ValueError(f"the archive does not hold the release {name}")
        os.chmod(work, 0o755)
        # One call for all of the file system: cheaper than one for each file.
        subprocess.run(["sync", "-f", work], check=True)
        if os.path.lexists(folder):
            os.rename(folder, tempfile.mkdtemp(dir=releases, prefix="."))
        os.rename(work, folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def link(path: str, target: str) -> None:
    """Let a symbolic link lead elsewhere, in one step."""
    temporary = f"{path}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)


def superfluous(releases: str, current: str, keep: int) -> list[str]:
    """Releases beyond the current one and the ``keep`` others that were so last, and what an interrupted run left."""
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
            "source": {"type": "list", "elements": "path"},
            "version": {"type": "str", "default": ""},
            "name": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 2},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    directory, name, archive = (module.params[option] for option in ("directory", "name", "archive"))
    os.umask(0o022)
    releases = os.path.join(directory, "releases")
    current = os.path.join(directory, "current")
    folder = os.path.join(releases, name)
    there = sorted(each for each in os.listdir(releases) if each[0] != ".") if os.path.isdir(releases) else []
    previous = os.path.basename(os.readlink(current)) if os.path.islink(current) else ""
    intact = name in there and is_intact(folder, name)
    switch = not intact or previous != name
    changed = switch or bool(superfluous(releases, name, module.params["keep"]))
    before = f"{previous}, changed by hand" if previous == name and not intact else previous
    if changed and not module.check_mode and (intact or archive):
        if not intact:
            try:
                unpack(archive, folder)
            except (ValueError, tarfile.TarError, OSError) as error:
                module.fail_json(msg=f"The release cannot be unpacked: {error}")
        if switch:
            # Also for a release that was put right: who reads it at start sees by the link's time that it must restart.
            os.utime(folder)
            link(current, os.path.join("releases", name))
        for old in superfluous(releases, name, module.params["keep"]):
            shutil.rmtree(os.path.join(releases, old))
        intact = True
    module.exit_json(
        changed=changed,
        name=name,
        previous=previous,
        intact=intact,
        there=there,
        diff={"before": f"{before}\n", "after": f"{name}\n"},
    )


if __name__ == "__main__":
    main()
