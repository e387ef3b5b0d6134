"""Programs from a signed release (a local server with a throw-away key) and from pinned modules."""

import hashlib
import io
import os
import shutil
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.preparing import programs
from tools.preparing.programs import Binary, Program, Release
from tools.preparing.running import PrepareError

ARTIFACTS = Path(__file__).resolve().parents[2] / "artifacts"
PROGRAMS = programs.read(ARTIFACTS)


class Signer:
    """A throw-away OpenPGP key."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._gpg = [
            "gpg",
            "--homedir",
            str(home),
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--pinentry-mode=loopback",
        ]
        subprocess.run([*self._gpg, "--quick-generate-key", "test", "ed25519", "sign", "0"], check=True)
        listing = subprocess.run(
            [*self._gpg, "--list-keys", "--with-colons"], check=True, capture_output=True, text=True
        )
        self.fingerprint = next(line.split(":")[9] for line in listing.stdout.splitlines() if line.startswith("fpr:"))
        self.key = home / "key.asc"
        subprocess.run([*self._gpg, "--armor", "--output", str(self.key), "--export"], check=True)

    def sign(self, file: Path) -> None:
        command = [*self._gpg, "--yes", "--output", f"{file}.sig", "--detach-sign", str(file)]
        subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def signers() -> Iterator[tuple[Signer, Signer]]:
    if not shutil.which("gpg"):
        pytest.skip("gpg is not installed; `python -m tools.prepare packages --tests` installs it")
    # Short, because gpg-agent's socket goes there.
    with tempfile.TemporaryDirectory(prefix="gpg-") as name:
        yield Signer(Path(name) / "vendor"), Signer(Path(name) / "other")
        for home in ("vendor", "other"):
            subprocess.run(["gpgconf", "--homedir", f"{name}/{home}", "--kill", "all"], check=True)


class QuietHandler(SimpleHTTPRequestHandler):
    """Files of a folder, without a line in the log for each."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def vendor(tmp_path: Path, signers: tuple[Signer, Signer]) -> Path:
    """The folder that a server on loopback publishes as a vendor's; it holds one good release."""
    folder = tmp_path / "vendor"
    folder.mkdir()
    with zipfile.ZipFile(folder / "thing.zip", "w") as archive:
        program = zipfile.ZipInfo("thing")
        program.external_attr = 0o755 << 16
        archive.writestr(program, "#!/bin/sh\necho works\n")
        archive.writestr("LICENSE.txt", "words")
    publish_sums(folder, signers[0])
    return folder


def publish_sums(folder: Path, signer: Signer) -> None:
    value = hashlib.sha256((folder / "thing.zip").read_bytes()).hexdigest()
    (folder / "SUMS").write_text(f"{'0' * 64}  other.zip\n{value}  thing.zip\n")
    signer.sign(folder / "SUMS")


@pytest.fixture
def program(
    vendor: Path, signers: tuple[Signer, Signer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Program]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "go.mod").write_text("module test\n\ngo 1.25\n")
    (tmp_path / "go.sum").touch()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(vendor))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        release = Release(
            url=f"http://127.0.0.1:{server.server_port}",
            zip="thing.zip",
            sums="SUMS",
            signature="SUMS.sig",
            key=signers[0].key,
            fingerprint=signers[0].fingerprint,
        )
        yield Program(
            "thing", "1.0", programs.architecture(), tmp_path, release, (Binary("thing", "example.test/thing", ""),)
        )
        server.shutdown()
        thread.join()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the programs that were built; nothing is compiled."""
    names: list[str] = []

    def build(program: Program, work: Path) -> None:
        names.append(program.name)
        (work / program.name).touch()

    monkeypatch.setattr(programs, "build", build)
    return names


@pytest.mark.parametrize("source", ["auto", "release"])
def test_a_good_release_is_unpacked(program: Program, built: list[str], tmp_path: Path, source: str) -> None:
    place = programs.prepare(program, source, tmp_path / "programs")
    assert [path.name for path in place.iterdir()] == ["thing"], "only what is executable"
    assert subprocess.run([place / "thing"], check=True, capture_output=True, text=True).stdout == "works\n"
    assert built == []
    assert programs.prepare(program, source, tmp_path / "programs") == place


@pytest.mark.parametrize("source", ["auto", "release"])
def test_changed_sums_are_refused(
    program: Program, vendor: Path, built: list[str], tmp_path: Path, source: str
) -> None:
    with (vendor / "SUMS").open("a") as file:
        file.write(f"{'1' * 64}  thing.zip\n")
    with pytest.raises(PrepareError, match=r"signature of .* is not good"):
        programs.prepare(program, source, tmp_path / "programs")
    assert built == []
    assert list((tmp_path / "programs").iterdir()) == []


def test_another_key_is_refused(
    program: Program, vendor: Path, built: list[str], tmp_path: Path, signers: tuple[Signer, Signer]
) -> None:
    publish_sums(vendor, signers[1])
    with pytest.raises(PrepareError, match=r"signature of .* is not good"):
        programs.prepare(program, "auto", tmp_path / "programs")
    assert built == []


def test_a_key_file_with_another_key_is_refused(
    program: Program, vendor: Path, tmp_path: Path, signers: tuple[Signer, Signer]
) -> None:
    """The fingerprint is pinned beside the key, so that exchanging the file alone is not enough."""
    assert program.release is not None
    other = Release(**{**vars(program.release), "key": signers[1].key})
    publish_sums(vendor, signers[1])
    with pytest.raises(PrepareError, match="is signed by"):
        programs.fetch_release("thing", other, tmp_path)


def test_a_changed_zip_is_refused(program: Program, vendor: Path, built: list[str], tmp_path: Path) -> None:
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        archive.writestr("thing", "bad")
    (vendor / "thing.zip").write_bytes(changed.getvalue())
    with pytest.raises(PrepareError, match="SHA-256"):
        programs.prepare(program, "auto", tmp_path / "programs")
    assert built == []


@pytest.mark.parametrize("missing", ["SUMS", "SUMS.sig", "thing.zip"])
def test_what_cannot_be_fetched_is_built_by_auto_only(
    program: Program, vendor: Path, built: list[str], tmp_path: Path, missing: str
) -> None:
    (vendor / missing).unlink()
    with pytest.raises(PrepareError, match="cannot be fetched"):
        programs.prepare(program, "release", tmp_path / "programs")
    assert built == []
    assert "-build-" in programs.prepare(program, "auto", tmp_path / "programs").name
    assert built == ["thing"]


def test_no_server_means_build(program: Program, built: list[str], tmp_path: Path) -> None:
    assert program.release is not None
    closed = Release(**{**vars(program.release), "url": "http://127.0.0.1:1"})
    lost = replace(program, release=closed)
    programs.prepare(lost, "auto", tmp_path / "programs")
    assert built == ["thing"]
    assert "-build-" in programs.prepare(lost, "auto", tmp_path / "programs").name, "cached: no server is asked"
    assert built == ["thing"]


def test_source_build_asks_no_server(program: Program, built: list[str], tmp_path: Path) -> None:
    assert "-build-" in programs.prepare(program, "build", tmp_path / "programs").name
    assert built == ["thing"]


def test_wrong_source_and_missing_release_are_said(program: Program, tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="LAB_PROGRAM_SOURCE is 'guess'"):
        programs.prepare(program, "guess", tmp_path)
    with pytest.raises(PrepareError, match="no signed release"):
        programs.prepare(PROGRAMS["terraform-provider-libvirt"], "release", tmp_path)


def test_changed_module_means_another_artifact(program: Program, built: list[str], tmp_path: Path) -> None:
    first = programs.prepare(program, "build", tmp_path / "programs")
    (tmp_path / "go.sum").write_text("another\n")
    assert programs.prepare(program, "build", tmp_path / "programs") != first
    assert built == ["thing", "thing"]


# What the project really pins


@pytest.mark.parametrize("name", PROGRAMS)
def test_versions_and_modules_agree(name: str) -> None:
    program = PROGRAMS[name]
    text = (program.module / "go.mod").read_text()
    module = next(
        line.split()[1] for line in text.splitlines() if line.startswith("require github.com/") and name in line
    )
    assert f"require {module} v{program.version}\n" in text
    assert f"{module} v{program.version} h1:" in (program.module / "go.sum").read_text()
    for binary in program.binaries:
        assert f"tool {binary.package}\n" in text or f"\t{binary.package}\n" in text
        assert "-mod=readonly" in programs.build_command("go", binary, Path("out"))


@pytest.mark.parametrize("name", [name for name, program in PROGRAMS.items() if program.release])
def test_keys_are_the_vendors(name: str) -> None:
    release = PROGRAMS[name].release
    assert release is not None
    data = programs.dearmor(release.key.read_text())
    # OpenPGP (RFC 4880): a packet of a public key, its length in two octets, in the old or the new format; version 4.
    length = int.from_bytes(data[1:3], "big") if data[0] == 0x99 else ((data[1] - 192) << 8) + data[2] + 192
    assert data[0] in {0x99, 0xC6}
    assert data[3] == 4
    hashed = b"\x99" + length.to_bytes(2, "big") + data[3 : 3 + length]
    assert hashlib.sha1(hashed, usedforsecurity=False).hexdigest().upper() == release.fingerprint


@pytest.mark.parametrize("text", ["", "words", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n%%\n=x\n"])
def test_a_damaged_key_is_said(text: str) -> None:
    with pytest.raises(PrepareError, match="Restore it from git"):
        programs.dearmor(text)


def test_addresses_are_complete() -> None:
    release = PROGRAMS["consul"].release
    assert release is not None
    assert release.url.endswith("/consul/1.20.6")
    assert release.zip == f"consul_1.20.6_linux_{programs.architecture()}.zip"


@pytest.mark.parametrize(("machine", "arch"), programs.ARCHITECTURES.items())
def test_each_processor_has_a_release_and_a_place_of_its_own(
    machine: str, arch: str, built: list[str], tmp_path: Path
) -> None:
    consul = programs.read(ARTIFACTS, machine)["consul"]
    assert consul.release is not None
    assert consul.release.zip == f"consul_1.20.6_linux_{arch}.zip"
    assert programs.prepare(consul, "build", tmp_path).name.startswith(f"consul-1.20.6-{arch}-build-")
    assert built == ["consul"]


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
@pytest.mark.skipif(
    not shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin"), reason="Go is not installed"
)
def test_a_program_is_really_compiled_for_the_named_processor(machine: str, number: int, tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module example.test/thing\n\ngo 1.21\n")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() {}\n")
    binaries = (Binary("thing", "example.test/thing", ""),)
    programs.build(Program("thing", "1.0", programs.architecture(machine), tmp_path, None, binaries), tmp_path)
    header = (tmp_path / "thing").read_bytes()[:20]
    assert (header[:4], int.from_bytes(header[18:20], "little")) == (b"\x7fELF", number)


def test_another_server_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_RELEASE_URL", "http://mirror.test/files")
    release = programs.read(ARTIFACTS)["consul"].release
    assert release is not None
    assert release.url == "http://mirror.test/files/consul/1.20.6"


# Go


def go_that_says(answers: dict[str, str], calls: list[list[str]]) -> programs.Execute:
    def execute(command: list[str]) -> str:
        calls.append(command)
        return answers[command[1]]

    return execute


@pytest.mark.parametrize(
    ("found", "wanted", "environment"),
    [
        ("go1.26.8", "1.25", {}),
        ("go1.25.3", "1.25.3", {}),
        ("go1.25.1", "1.25.3", {"GOTOOLCHAIN": "go1.25.3"}),
        ("go1.21.0", "1.25", {"GOTOOLCHAIN": "go1.25.0"}),
    ],
)
def test_a_newer_go_is_fetched_by_go_itself(
    monkeypatch: pytest.MonkeyPatch, found: str, wanted: str, environment: dict[str, str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/bin/go")
    assert programs.find_go(wanted, go_that_says({"env": found}, [])) == ("/bin/go", environment)


def test_an_old_go_fetches_the_toolchain_as_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_: "/bin/go" if name == "go" else f"/usr/bin/{name}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = tmp_path / "mod/golang.org/toolchain@x"
    for file in ("bin/go", "pkg/tool/linux_amd64/compile", "src/a.go"):
        (module / file).parent.mkdir(parents=True)
        (module / file).touch(0o444)
    calls: list[list[str]] = []
    go, environment = programs.find_go("1.25", go_that_says({"env": "go1.19.8", "mod": f'"Dir": "{module}"'}, calls))
    assert environment == {}
    assert f"golang.org/toolchain@v0.0.1-go1.25.0.linux-{programs.architecture()}" in calls[1]
    root = Path(go).parents[1]
    assert os.access(go, os.X_OK)
    assert os.access(root / "pkg/tool/linux_amd64/compile", os.X_OK)
    assert (root / "src/a.go").stat().st_mode & 0o777 == 0o644


def test_no_go_and_no_apt_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(PrepareError, match=r"Install Go 1\.21 or newer"):
        programs.find_go("1.25")
