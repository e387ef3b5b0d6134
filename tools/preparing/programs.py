"""Programs that no distribution packages: from the vendor's signed release, or compiled from pinned Go modules."""

import base64
import hashlib
import http.client
import os
import re
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.preparing import packages
from tools.preparing.cache import artifact, digest, folder
from tools.preparing.running import PROGRESS_SECONDS, PrepareError, run, say

SOURCES = ("auto", "release", "build")
CONNECT_SECONDS = 5
"""How long a release server may take to answer; it is also the longest silence within a download."""
OLDEST_GO = (1, 21)
"""The first Go that fetches the version which a go.mod names by itself."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What `uname -m` calls a kind of processor, and what Go and the vendors call it."""


class UnreachableError(Exception):
    """The release server does not give the file; nothing is said about the file itself."""


@dataclass(frozen=True)
class Release:
    """Where a vendor publishes a program, and the key that signs its checksums."""

    url: str
    zip: str
    sums: str
    signature: str
    key: Path
    fingerprint: str


@dataclass(frozen=True)
class Binary:
    """One executable file out of a program's Go module."""

    name: str
    package: str
    tags: str


@dataclass(frozen=True)
class Program:
    """A program as artifacts/versions.yml describes it."""

    name: str
    version: str
    architecture: str
    """By Go's and the vendors' name."""
    module: Path
    """The folder with the go.mod and go.sum that pin its build."""
    release: Release | None
    binaries: tuple[Binary, ...]


def architecture(machine: str = "") -> str:
    """The architecture of a machine, the controller's if none is named, by Go's and the vendors' name."""
    machine = machine or os.uname().machine
    if machine not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise PrepareError(f"There are no programs for the architecture '{machine}'. Use one of: {known}.")
    return ARCHITECTURES[machine]


def read(artifacts: Path, machine: str = "") -> dict[str, Program]:
    """All programs of artifacts/versions.yml by name, for a kind of machine, or for the controller's."""
    return {
        name: _program(artifacts, name, text, architecture(machine))
        for name, text in yaml.safe_load((artifacts / "versions.yml").read_text())["programs"].items()
    }


def _program(artifacts: Path, name: str, text: dict[str, Any], arch: str) -> Program:
    release = None
    if "release" in text:
        words = {"program": name, "version": text["version"], "arch": arch}
        filled = {key: value.format(**words) for key, value in text["release"].items()}
        release = Release(
            url=f"{os.environ.get('LAB_RELEASE_URL') or filled['url']}/{filled['folder']}",
            zip=filled["zip"],
            sums=filled["sums"],
            signature=filled["signature"],
            key=artifacts / filled["key"],
            fingerprint=filled["fingerprint"],
        )
    return Program(
        name=name,
        version=text["version"],
        architecture=arch,
        module=artifacts / name,
        release=release,
        binaries=tuple(Binary(key, value["package"], value.get("tags", "")) for key, value in text["build"].items()),
    )


def prepare(program: Program, source: str, programs: Path) -> Path:
    """The folder with the program's executables, from the first source that can give it.

    A release that is there but fails a check is an error for `auto` too: it is never passed over in silence.
    """
    if source not in SOURCES:
        raise PrepareError(f"LAB_PROGRAM_SOURCE is '{source}'. Set it to one of: {', '.join(SOURCES)}.")
    places: dict[str, Path] = {}
    if program.release is not None and source != "build":
        places["release"] = programs / _release_name(program, program.release)
    if source != "release":
        places["build"] = programs / _build_name(program)
    if not places:
        raise PrepareError(f"{program.name} has no signed release. Set LAB_PROGRAM_SOURCE=build or auto.")
    for place in places.values():
        if place.is_dir():
            return artifact(place, _not_called)
    if "release" in places and program.release is not None:
        release = program.release
        try:
            return artifact(places["release"], lambda work: fetch_release(program.name, release, work))
        except UnreachableError as error:
            if source == "release":
                raise PrepareError(
                    f"{error}. Try again later, name a mirror in LAB_RELEASE_URL, or set LAB_PROGRAM_SOURCE=build."
                ) from error
            say(program.name, f"{error}; building it instead")
    return artifact(places["build"], lambda work: build(program, work))


def _not_called(work: Path) -> None:
    raise AssertionError(work)


def _release_name(program: Program, release: Release) -> str:
    inputs = digest(release.zip, release.fingerprint)
    return f"{program.name}-{program.version}-{program.architecture}-release-{inputs}"


def _build_name(program: Program) -> str:
    recipe = repr((program.binaries, build_command("go", program.binaries[0], Path("OUT")), program.architecture))
    inputs = digest(recipe, program.module / "go.mod", program.module / "go.sum")
    return f"{program.name}-{program.version}-{program.architecture}-build-{inputs}"


# Release


def fetch_release(step: str, release: Release, work: Path) -> None:
    """Put the executables of the vendor's zip into `work`, after its checksum and that one's signature were checked."""
    with tempfile.TemporaryDirectory(dir=work, prefix=".download-") as name:
        files = Path(name)
        for file in (release.sums, release.signature):
            download(f"{release.url}/{file}", files / file, step)
        check_signature(release, files)
        download(f"{release.url}/{release.zip}", files / release.zip, step)
        check_sum(files / release.sums, files / release.zip)
        with zipfile.ZipFile(files / release.zip) as archive:
            for member in archive.infolist():
                # The vendor marks executables in the zip; the rest is licences.
                if not member.is_dir() and (member.external_attr >> 16) & 0o100:
                    target = work / Path(member.filename).name
                    with archive.open(member) as packed, target.open("wb") as file_out:
                        shutil.copyfileobj(packed, file_out)
                    target.chmod(0o755)
    if not any(work.iterdir()):
        raise PrepareError(
            f"{release.zip} holds no executable file. Report this, and set LAB_PROGRAM_SOURCE=build meanwhile."
        )


def download(url: str, target: Path, step: str) -> None:
    """Fetch one file. Whatever keeps it from coming is `UnreachableError`."""
    say(step, f"fetching {url}")
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as answer, target.open("wb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            told = time.monotonic()
            while block := answer.read(1 << 20):
                file.write(block)
                if time.monotonic() - told >= PROGRESS_SECONDS:
                    told = time.monotonic()
                    say(step, f"{file.tell() >> 20} of {size >> 20} MiB ...")
        if target.stat().st_size < size:
            raise UnreachableError(f"{url} ended early")
    except (OSError, http.client.HTTPException, urllib.error.URLError) as error:
        raise UnreachableError(f"{url} cannot be fetched ({getattr(error, 'reason', error)})") from error


def check_signature(release: Release, files: Path) -> None:
    """Fail unless the vendor's own key signed the checksums."""
    keyring = files / "keyring.gpg"
    keyring.write_bytes(dearmor(release.key.read_text()))
    command = ["gpgv", "--status-fd", "1", "--keyring", str(keyring), release.signature, release.sums]
    remedy = (
        "The file was changed on the way, or a proxy answered in the vendor's place. "
        "Find out which; LAB_PROGRAM_SOURCE=build does not use it."
    )
    try:
        status = run(f"signature of {release.sums}", command, cwd=files)
    except PrepareError as error:
        raise PrepareError(f"The signature of {release.url}/{release.sums} is not good. {remedy}") from error
    # VALIDSIG's last word is the primary key's fingerprint, whichever subkey signed.
    signers = [line.split()[-1] for line in status.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
    if signers != [release.fingerprint]:
        raise PrepareError(f"{release.url}/{release.sums} is signed by {signers}, not {release.fingerprint}. {remedy}")


def dearmor(text: str) -> bytes:
    """The binary form, which gpgv wants, of a key in ASCII armour."""
    lines = [line.strip() for line in text.splitlines()]
    try:
        start = lines.index("-----BEGIN PGP PUBLIC KEY BLOCK-----")
        body = lines[lines.index("", start) + 1 : lines.index("-----END PGP PUBLIC KEY BLOCK-----", start)]
        # The last line, which begins with =, is a checksum of the others.
        return base64.b64decode("".join(line for line in body if not line.startswith("=")), validate=True)
    except ValueError as error:
        raise PrepareError("A key under artifacts/keys/ is no OpenPGP key in armour. Restore it from git.") from error


def check_sum(sums: Path, file: Path) -> None:
    """Fail unless the checked list of checksums names this very content for the file."""
    wanted = {name.lstrip("*"): value for value, name in (line.split() for line in sums.read_text().splitlines())}
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if wanted.get(file.name) != found:
        raise PrepareError(
            f"{file.name} has the SHA-256 sum {found}, and its vendor signed {wanted.get(file.name, 'none for it')}. "
            "The download was changed or cut off: run this again."
        )


# Build


def build(program: Program, work: Path) -> None:
    """Compile the program's executables into `work`; Go's own cache makes a build that was cut off go on."""
    go, toolchain = find_go(_wanted_go(program.module / "go.mod"))
    for binary in program.binaries:
        target = work / binary.name
        say(program.name, f"compiling {binary.package} for {program.architecture} (some minutes the first time)")
        run(
            program.name,
            build_command(go, binary, target),
            cwd=program.module,
            environment={"GOOS": "linux", "GOARCH": program.architecture, "CGO_ENABLED": "0", "GOWORK": "off"}
            | toolchain,
        )
        target.chmod(0o755)


def build_command(go: str, binary: Binary, target: Path) -> list[str]:
    """The one command that compiles an executable. `-mod=readonly`: go.sum checks every byte and is not written."""
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(target)]
    return [go, "build", *flags, *(["-tags", binary.tags] if binary.tags else []), binary.package]


def _wanted_go(file: Path) -> str:
    match = re.search(r"^go (\S+)$", file.read_text(), re.MULTILINE)
    assert match, f"{file} has no go line"
    return match.group(1)


Execute = Callable[[list[str]], str]
"""Runs a command and returns what it prints."""


def _run_go(command: list[str]) -> str:
    return run("go", command)


def find_go(wanted: str, execute: Execute = _run_go) -> tuple[str, dict[str, str]]:
    """The path of a Go that is, or fetches by its module proxy, the version `wanted`, and the environment for that."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        go = packages.install_go()
    if wanted.count(".") == 1:
        wanted += ".0"  # the language version that a go.mod may name is no release of Go
    found = execute([go, "env", "GOVERSION"]).strip().removeprefix("go")
    if _version(found) >= _version(wanted):
        return go, {}
    if _version(found) >= OLDEST_GO:
        return go, {"GOTOOLCHAIN": f"go{wanted}"}
    return _fetch_go(go, wanted, execute), {}


def _fetch_go(go: str, wanted: str, execute: Execute) -> str:
    """An old Go cannot run another version, but it can fetch and check one: toolchains are Go modules too."""
    module = f"golang.org/toolchain@v0.0.1-go{wanted}.linux-{architecture()}"
    say("go", f"fetching Go {wanted} with {go}")
    match = re.search(r'"Dir": "(.+)"', execute([go, "mod", "download", "-json", module]))
    if not match:
        raise PrepareError(f"Go {wanted} cannot be fetched. Install Go {wanted} or newer and run this again.")
    source = Path(match.group(1))
    # A module's files are not executable, and its cache is write-protected: a copy it must be.
    place = folder() / "programs" / f"go-{wanted}-{architecture()}"
    return str(artifact(place, lambda work: _executable_copy(source, work / "go")) / "go/bin/go")


def _executable_copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    for path in [target, *target.rglob("*")]:
        executable = path.is_dir() or path.parent in (target / "bin", *(target / "pkg/tool").glob("*"))
        path.chmod(0o755 if executable else 0o644)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
