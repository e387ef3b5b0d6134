"""The tree of files that every container machine stands on, made by mmdebstrap from the controller's own mirror."""

import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tools.preparing.cache import alone, artifact, digest, whole
from tools.preparing.packages import ARTIFACTS, kept, lists
from tools.preparing.programs import architecture
from tools.preparing.running import PrepareError, run, say

RECIPE = ARTIFACTS / "base-tree.sh"
RELEASES = ("bookworm", "trixie")


def prepare(release: str, trees: Path) -> Path:
    """The folder of the release's tree; made anew each month, for the security updates of Debian.

    Without network the newest tree by the same recipe does as well.
    """
    if release not in RELEASES:
        raise PrepareError(
            f"There is no base tree for the Debian release '{release}'. Use one of: {', '.join(RELEASES)}."
        )
    base, keep = " ".join(lists()["base"]), " ".join(kept())
    stem = f"{release}-{architecture()}-{digest(RECIPE, base, keep)}"
    place = trees / f"{stem}-{time.strftime('%Y-%m')}"

    def make(work: Path) -> None:
        recipe = ["sh", str(RECIPE), release, str(work), base, keep, *_proxy(), "--"]
        command = whole([*recipe, *sources(release, _configured(), _codename())])
        run(place.name, alone(work, command), end="KILL")

    older = sorted(path for path in trees.glob(f"{stem}-*") if path.is_dir())
    try:
        return artifact(place, make, root=True)
    except PrepareError as error:
        if not older:
            raise
        say(place.name, f"{error} Going on with {older[-1].name}.")
        return artifact(older[-1], make, root=True)


def sources(release: str, configured: Sequence[tuple[str, str]], host: str) -> list[str]:
    """Lines of a sources.list for the release: from the mirrors that the controller (`host`, a codename) uses itself.

    `configured` is what apt knows, as pairs of a repository's address and the suite. LAB_DEBIAN_MIRROR and
    LAB_DEBIAN_SECURITY_MIRROR override.
    """

    def mirror(variable: str, *suites: str) -> str | None:
        found = [address for address, suite in configured if suite in suites]
        return os.environ.get(variable) or next((address.rstrip("/") for address in found if _usable(address)), None)

    main = mirror("LAB_DEBIAN_MIRROR", host, "stable", "testing")
    security = mirror("LAB_DEBIAN_SECURITY_MIRROR", f"{host}-security", "stable-security")
    if main is None:
        raise PrepareError(
            "This system's apt names no Debian mirror. Set LAB_DEBIAN_MIRROR (and LAB_DEBIAN_SECURITY_MIRROR) "
            "to the address of one and run this again."
        )
    lines = [f"deb {main} {release} main", f"deb {main} {release}-updates main"]
    if security is None:
        say(
            "base",
            "no mirror of Debian's security updates is known: the tree goes without. See LAB_DEBIAN_SECURITY_MIRROR",
        )
        return lines
    return [*lines, f"deb {security} {release}-security main"]


def _usable(address: str) -> bool:
    # file:, cdrom: and copy: mean something on the controller only.
    return re.match(r"https?://", address) is not None


def _configured() -> list[tuple[str, str]]:
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    try:
        lines = run("base", command).splitlines()
    except PrepareError:
        return []
    return [(address, suite) for address, suite in (line.split(maxsplit=1) for line in lines if " " in line)]


def _codename() -> str:
    match = re.search(r'^VERSION_CODENAME="?(\w+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    return match.group(1) if match else "unknown"


def _proxy() -> list[str]:
    """The controller's proxy for apt, which the machines need as well."""
    if not Path("/usr/bin/apt-config").exists():
        return []
    text = subprocess.run(
        ["apt-config", "shell", "proxy", "Acquire::http::Proxy"], check=True, capture_output=True, text=True
    ).stdout
    match = re.fullmatch(r"proxy='([^'\s]+)'\s*", text)
    return [f'--aptopt=Acquire::http::Proxy="{match.group(1)}";'] if match else []
