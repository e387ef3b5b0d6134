"""The command itself, the base tree's sources, the layers, and the lock files."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tools import prepare
from tools.preparing import base_tree, layers, packages, programs, wheels
from tools.preparing.running import PrepareError

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("LAB_DEBIAN_MIRROR", "LAB_DEBIAN_SECURITY_MIRROR", "LAB_PROGRAM_SOURCE"):
        monkeypatch.delenv(name, raising=False)


# Command


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that make empty files where the real ones make real ones."""

    def program(program: programs.Program, _source: str, folder: Path) -> Path:
        own = program.architecture == programs.architecture()
        place = folder / (program.name if own else f"{program.name}-{program.architecture}")
        place.mkdir(parents=True, exist_ok=True)
        for binary in program.binaries:
            (place / binary.name).touch()
        return place

    def folder(name: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    monkeypatch.setattr(packages, "prepare", lambda _: None)
    monkeypatch.setattr(programs, "prepare", program)
    monkeypatch.setattr(wheels, "prepare", lambda *_: folder("wheels"))
    monkeypatch.setattr(base_tree, "prepare", lambda release, _: folder(release))
    monkeypatch.setattr(layers, "prepare", lambda *_: folder("layer"))
    monkeypatch.setattr(layers, "groups", lambda tree, _: {"database": str(folder(f"database-{tree.name}"))})


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    assert prepare.main([*arguments, "--lab", str(tmp_path / "lab")]) == 0
    path = tmp_path / "lab/artifacts.json"
    assert path.stat().st_mode & 0o777 == 0o644
    result: dict[str, Any] = json.loads(path.read_text())
    return result


@pytest.mark.usefixtures("made")
def test_all_steps_write_where_everything_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(tmp_path, "--json")
    cache = tmp_path / "cache/hashistack-lab/programs"
    assert result == {
        "architecture": os.uname().machine,
        "other_programs": {},
        "programs": {
            "consul": str(cache / "consul/consul"),
            "vault": str(cache / "vault/vault"),
            "vault_plugin_postgresql": str(cache / "vault/postgresql-database-plugin"),
        },
        "wheels": str(tmp_path / "wheels"),
        "base": {"bookworm": f"{tmp_path}/layer:{tmp_path}/bookworm"},
        "layers": {"bookworm": {"database": f"{tmp_path}/database-bookworm"}},
    }
    output = capsys.readouterr().out
    assert json.loads(output[output.index("{") :]) == result
    assert "prepare: total: " in output


@pytest.mark.usefixtures("made")
def test_a_later_run_adds_and_forgets_what_is_gone(tmp_path: Path) -> None:
    run(tmp_path)
    result = run(tmp_path, "base", "--release", "trixie")
    assert result["base"] == {name: f"{tmp_path}/layer:{tmp_path}/{name}" for name in ("bookworm", "trixie")}
    result = run(tmp_path, "programs", "--program", "tofu")
    assert set(result["programs"]) == {"consul", "vault", "vault_plugin_postgresql", "tofu"}
    assert result["layers"] == {name: {"database": f"{tmp_path}/database-{name}"} for name in ("bookworm", "trixie")}
    (tmp_path / "bookworm").rmdir()
    (tmp_path / "database-trixie").rmdir()
    Path(result["programs"]["tofu"]).unlink()
    result = run(tmp_path, "wheels")
    assert set(result["base"]) == {"trixie"}
    assert result["layers"]["trixie"] == {}
    assert "tofu" not in result["programs"]


@pytest.mark.usefixtures("made")
def test_programs_for_another_processor_are_beside_the_computers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, other = sorted(programs.ARCHITECTURES, key=lambda name: name != os.uname().machine)
    wanted: list[list[str]] = []

    def make(_requirements: Path, folder: Path, machines: list[str]) -> Path:
        wanted.append(machines)
        return folder

    monkeypatch.setattr(wheels, "prepare", make)
    own = run(tmp_path)
    assert (own["architecture"], own["other_programs"], wanted) == (here, {}, [[here]])
    both = run(tmp_path, "programs", "wheels", "--architecture", other)
    assert both["programs"] == own["programs"]
    files = both["other_programs"].pop(other)
    assert set(files) == {"consul", "vault", "vault_plugin_postgresql"}
    assert f"-{programs.ARCHITECTURES[other]}/" in files["vault"]
    assert both["base"] == own["base"], "containers are of this computer's kind"
    later = run(tmp_path)
    assert later["other_programs"] == {other: files}
    assert wanted[1:] == [sorted(programs.ARCHITECTURES)] * 2, "a run for all machines or for some finds one release"
    Path(files["vault"]).unlink()
    assert run(tmp_path)["other_programs"] == {}, "incomplete"
    assert wanted[-1] == [here]


def test_a_processor_without_programs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["programs", "--architecture", "riscv64", "--lab", str(tmp_path)]) == 1
    said = "There are no programs for the architecture 'riscv64'. Use one of: x86_64, aarch64."
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"base": {}}', '{"base": 1, "programs": {}, "wheels": ""}'])
def test_a_damaged_result_is_made_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "artifacts.json").write_text(text)
    assert prepare.read_result(tmp_path / "artifacts.json") == {
        "architecture": os.uname().machine,
        "base": {},
        "layers": {},
        "other_programs": {},
        "programs": {},
        "wheels": "",
    }


@pytest.mark.usefixtures("made")
def test_mistakes_are_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["programs", "--program", "nomad", "--lab", str(tmp_path)]) == 1
    assert "There is no program 'nomad'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        prepare.main(["everything"])
    assert "there is no step 'everything'" in capsys.readouterr().err


# Base tree

HOST = [
    ("http://mirror.test/debian/", "bookworm"),
    ("http://mirror.test/debian/", "bookworm-updates"),
    ("https://other.test/security/", "bookworm-security"),
    ("https://tools.test/apt", "nodistro"),
]


@pytest.mark.parametrize("release", base_tree.RELEASES)
def test_sources_are_the_controllers_own_mirrors(release: str) -> None:
    assert base_tree.sources(release, HOST, "bookworm") == [
        f"deb http://mirror.test/debian {release} main",
        f"deb http://mirror.test/debian {release}-updates main",
        f"deb https://other.test/security {release}-security main",
    ]


def test_sources_by_variable_and_without_security(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    local = [("file:/srv/mirror", "bookworm"), ("cdrom:[x]", "bookworm-security")]
    with pytest.raises(PrepareError, match="LAB_DEBIAN_MIRROR"):
        base_tree.sources("bookworm", local, "bookworm")
    monkeypatch.setenv("LAB_DEBIAN_MIRROR", "http://set.test/debian")
    assert len(base_tree.sources("bookworm", local, "bookworm")) == 2
    assert "goes without" in capsys.readouterr().out
    monkeypatch.setenv("LAB_DEBIAN_SECURITY_MIRROR", "http://set.test/security")
    lines = base_tree.sources("trixie", [], "jammy")
    assert lines[2] == "deb http://set.test/security trixie-security main"


def test_last_months_tree_will_do_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(step: str, command: list[str], end: str = "") -> str:
        assert end in {"", "KILL"}
        if str(base_tree.RECIPE) in command:
            raise PrepareError(f"{step}: no network.")
        return ""

    monkeypatch.setattr(base_tree, "run", no_network)
    monkeypatch.setattr(base_tree, "sources", lambda *_: [])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PrepareError, match="no network"):
        base_tree.prepare("bookworm", tmp_path)
    stem = "bookworm-{}-{}".format(programs.architecture(), "0" * 12)
    monkeypatch.setattr(base_tree, "digest", lambda *_: "0" * 12)
    for month in ("2020-11", "2020-12"):
        (tmp_path / f"{stem}-{month}").mkdir()
    assert base_tree.prepare("bookworm", tmp_path).name == f"{stem}-2020-12"
    assert "no network. Going on with" in capsys.readouterr().out
    this_month = tmp_path / f"{stem}-{time.strftime('%Y-%m')}"
    this_month.mkdir()
    assert base_tree.prepare("bookworm", tmp_path) == this_month


def test_an_unknown_release_is_said(tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="no base tree for the Debian release 'sid'"):
        base_tree.prepare("sid", tmp_path)


# Layers


def test_layer_holds_the_programs_where_roles_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without root there is no other owner to give.
    monkeypatch.setattr(
        layers, "as_root", lambda command: [word for word in command if word not in {"-o", "-g", "root"}]
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "consul").write_text("abc")
    (tmp_path / "plugin").write_text("plugin")
    found = {
        "consul": str(tmp_path / "consul"),
        "vault_plugin_postgresql": str(tmp_path / "plugin"),
        "tofu": "/nowhere",
    }
    layer = layers.prepare(found, tmp_path / "layers")
    assert layer is not None
    files = {str(path.relative_to(layer)): path for path in layer.rglob("*") if path.is_file()}
    assert set(files) == {
        "usr/local/lib/consul/ba7816bf8f01cfea/consul",  # as SHA-256 of "abc" begins
        "usr/local/lib/vault/plugins/postgresql-database-plugin",
    }
    assert {path.stat().st_mode & 0o777 for path in [layer, *layer.rglob("*")]} == {0o755}
    assert layers.prepare(found, tmp_path / "layers") == layer
    (tmp_path / "consul").write_text("another")
    assert layers.prepare(found, tmp_path / "layers") != layer
    assert layers.prepare({"vault_plugin_postgresql": ""}, tmp_path) is None


def test_each_group_has_a_layer_of_its_packages_over_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, list[str]] = {}

    def run(step: str, command: list[str], end: str) -> None:
        assert end == "KILL"
        made[step] = command[command.index(str(layers.RECIPE)) + 1 :]

    monkeypatch.setattr(layers, "run", run)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    lists = {"backend": ["nginx"], "frontend": ["nginx", "php-fpm"]}
    monkeypatch.setattr(layers, "lists", lambda: {"groups": lists})
    tree, folder = tmp_path / "bookworm-1", tmp_path / "layers"
    tree.mkdir()
    first = layers.groups(tree, folder)
    assert list(first) == ["backend", "frontend"]
    for group, place in first.items():
        assert Path(place).is_dir()
        work = folder / f".{Path(place).name}.unfinished"
        assert made.pop(Path(place).name) == [str(tree), str(work), *lists[group]]
    assert layers.groups(tree, folder) == first
    assert made == {}, "they are there"
    lists["frontend"].append("php-curl")
    changed = layers.groups(tree, folder)
    assert [group for group in first if changed[group] != first[group]] == ["frontend"]
    os.utime(tree, (0, 0))  # made anew
    assert not set(layers.groups(tree, folder).values()) & set(changed.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_packages_that_are_installed_over_a_tree_leave_the_computers_devices_alone(tmp_path: Path) -> None:
    for folder in ("tree/proc", "tree/tmp", "tree/dev", "tree/usr/sbin"):
        (tmp_path / folder).mkdir(parents=True)
    before = Path("/dev/full").stat()
    script = f'. {PROJECT}/artifacts/over-tree.sh; over_tree {tmp_path}/tree {tmp_path}/work; chgrp 1 "$root/dev/full"'
    script += '; : >"$root/dev/null"; stat -c %g "$root/dev/full"; leave_tree; ls "$root/dev"'
    try:
        done = subprocess.run(["unshare", "--mount", "sh", "-euc", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
        assert Path("/dev/full").stat().st_gid == before.st_gid
    finally:
        os.chown("/dev/full", before.st_uid, before.st_gid)


# Lock files


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", path.read_text(), re.MULTILINE))


def test_locks_name_no_host_and_every_hash() -> None:
    for path in (PROJECT / "requirements.txt", PROJECT / "app/backend/requirements.txt"):
        text = path.read_text()
        assert "://" not in text
        assert "--index-url" not in text.replace("--no-emit-index-url", "")
        entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
        assert entries
        assert all("--hash=sha256:" in entry for entry in entries)


def test_both_locks_agree() -> None:
    ours, backend = locked(PROJECT / "requirements.txt"), locked(PROJECT / "app/backend/requirements.txt")
    assert {name: ours.get(name) for name in backend} == backend


def test_all_pins_of_the_input_are_locked() -> None:
    ours = locked(PROJECT / "requirements.txt")
    for line in (PROJECT / "requirements.in").read_text().splitlines():
        name, _, version = line.partition("==")
        if line and not line.startswith("#"):
            assert ours[name.lower()] == (version or ours[name.lower()])


def test_wheels_are_for_both_debian_releases_and_all_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(_: str, command: list[str]) -> None:
        commands.append(command)
        folder, python = (command[command.index(option) + 1] for option in ("--target", "--python-version"))
        machine = command[-1].removeprefix("manylinux2014_")
        for name in (f"thing/code.{python}-{machine}.so", "thing/code.py", "thing-1.dist-info/RECORD", "bin/thing"):
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_text(text.get(python, text.get(machine, "the same")))

    text: dict[str, str] = {}
    monkeypatch.setattr(wheels, "run", run)
    place = wheels.prepare(PROJECT / "app/backend/requirements.txt", tmp_path, ["aarch64", "x86_64"])
    assert {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} == {
        *(f"all/thing/code.{python}-{machine}.so" for python in wheels.PYTHONS for machine in ("aarch64", "x86_64")),
        "all/thing/code.py",
    }
    assert [command[command.index("--abi") + 1] for command in commands] == ["cp311", "cp311", "cp313", "cp313"]
    assert "manylinux_2_28_aarch64" in commands[0]
    assert "manylinux_2_28_aarch64" not in commands[1]
    for command in commands:
        assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(command)
    with pytest.raises(PrepareError, match="missing"):
        wheels.prepare(tmp_path / "requirements.txt", tmp_path, ["x86_64"])
    for differing in ("3.13", "x86_64"):
        text.clear()
        text[differing] = "another"
        with pytest.raises(PrepareError, match=r"thing/code\.py is not the same for all Pythons .* and processors"):
            wheels.prepare(PROJECT / "app/backend/requirements.txt", tmp_path / differing, ["aarch64", "x86_64"])
