"""A layer of files with the programs already where the roles put them, as a golden image would have them.

Machines made in containers lay it over the base tree: none copies 130 MB, and all share one copy in memory. The roles
find the programs there; a program of another version they copy as they do on any host.
"""

import hashlib
from pathlib import Path

from tools.preparing.cache import artifact, digest
from tools.preparing.running import as_root, run

PLACES = {
    "consul": "usr/local/lib/consul/{sha}/consul",
    "vault": "usr/local/lib/vault/{sha}/vault",
    "vault_plugin_postgresql": "usr/local/lib/vault/plugins/postgresql-database-plugin",
}
"""Where the roles consul and vault put each program; {sha} is the first 16 digits of its SHA-256 sum."""


def prepare(programs: dict[str, str], layers: Path) -> Path | None:
    """The folder of the layer with those of `programs` (paths by name) that machines have, or None without any."""
    files = {name: Path(programs[name]) for name in PLACES if programs.get(name)}
    if not files:
        return None
    # A program's folder is named by what it was made from; size and time tell a repeated build apart.
    states = [f"{name} {file} {file.stat().st_size} {file.stat().st_mtime_ns}" for name, file in files.items()]
    place = layers / f"programs-{digest(repr(PLACES), *states)}"
    return artifact(place, lambda work: _fill(place.name, files, work), root=True)


def _fill(step: str, files: dict[str, Path], work: Path) -> None:
    owner = ["-o", "root", "-g", "root", "-m", "0755"]
    targets = {}
    for name, file in files.items():
        with file.open("rb") as handle:
            sha = hashlib.file_digest(handle, "sha256").hexdigest()[:16]
        targets[file] = work / PLACES[name].format(sha=sha)
    folders = {parent for path in targets.values() for parent in path.parents if parent.is_relative_to(work)}
    # `work` as well: in an overlay the upper layer's folders give the owner and mode.
    run(step, as_root(["install", "-d", *owner, *(str(path) for path in sorted(folders))]))
    for source, target in targets.items():
        run(step, as_root(["install", *owner, str(source), str(target)]))
