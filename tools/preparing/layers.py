"""Layers of files with what roles would install, as a golden image would have it: the programs, and a group's packages.

Machines made in containers lay them over the base tree: none copies 130 MB or unpacks packages, and all share one copy
in memory. The roles find it all there; what is of another version, or missing, they install as they do on any host.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.preparing.cache import alone, artifact, digest, whole
from tools.preparing.packages import ARTIFACTS, lists
from tools.preparing.running import as_root, run

RECIPE, OVER_TREE = ARTIFACTS / "layer.sh", ARTIFACTS / "over-tree.sh"

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


def groups(tree: Path, layers: Path) -> dict[str, str]:
    """The folder of each group's layer, with its packages installed over the tree."""

    def prepare_group(group: str) -> str:
        packages = lists()["groups"][group]
        state = digest(RECIPE, OVER_TREE, str(tree.stat().st_mtime_ns), *packages)
        place = layers / f"{group}-{tree.name}-{state}"

        def make(work: Path) -> None:
            command = ["sh", str(RECIPE), str(tree), str(work), *packages]
            run(place.name, alone(work, whole(command)), end="KILL")

        return str(artifact(place, make, root=True))

    with ThreadPoolExecutor() as pool:
        return dict(zip(lists()["groups"], pool.map(prepare_group, lists()["groups"]), strict=True))
