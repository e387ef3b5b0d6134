"""A release is whole or not there, and the same files are always the same release."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from plugins.action.release import collect, pack
from plugins.modules.release import digest, is_intact, link, superfluous, unpack

ROOT = Path(__file__).resolve().parents[2]


def play(folder: Path, *steps: dict[str, Any] | str) -> list[dict[str, Any]]:
    """What each step of a playbook returned, on this computer as a host: options of a release, or a command between."""
    tasks: list[dict[str, Any]] = []
    for number, step in enumerate(steps):
        options = {"register": f"result{number}", "ignore_errors": True}
        if isinstance(step, str):
            tasks.append({"ansible.builtin.shell": {"cmd": step, "chdir": str(folder)}, **options})
        else:
            check = step.pop("check_mode", False)
            tasks.append(
                {"hashistack.lab.release": {"directory": f"{folder}/host", **step}, "check_mode": check, **options}
            )
    names = [f"result{number}" for number in range(len(steps))]
    content = "{{ [" + ", ".join(names) + "] | to_json }}"
    tasks.append({"ansible.builtin.copy": {"content": content, "dest": f"{folder}/results.json", "mode": "0600"}})
    (folder / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local"]
    done = subprocess.run([*command, str(folder / "play.yml")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return results


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "public/assets").mkdir(parents=True)
    (folder / "public/index.php").write_text("<?php\n")
    (folder / "public/assets/page.css").write_text("body {}\n")
    (folder / ".hidden").write_text("not for hosts")
    (folder / "public/__pycache__").mkdir()
    (folder / "public/__pycache__/index.pyc").write_text("made by chance")
    return folder


@pytest.fixture
def archive(source: Path, tmp_path: Path) -> Path:
    pack(collect([str(source)]), tmp_path / "one.tar.gz")
    return tmp_path / "one.tar.gz"


def test_the_same_folder_is_the_same_archive(source: Path, archive: Path, tmp_path: Path) -> None:
    os.utime(source / "public/index.php", (1, 1))
    (source / "public/index.php").chmod(0o600)
    pack(collect([str(source)]), tmp_path / "two.tar.gz")
    assert archive.read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["public/assets/page.css", "public/index.php"]


def test_another_content_or_name_is_another_release(source: Path) -> None:
    before = digest(collect([str(source)]))
    (source / "public/index.php").rename(source / "public/index.html")
    renamed = digest(collect([str(source)]))
    (source / "public/index.html").write_text("<?php exit;\n")
    assert len({before, renamed, digest(collect([str(source)]))}) == 3


def test_folders_are_put_together_and_none_may_be_empty(source: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    with pytest.raises(FileNotFoundError, match=f"no file in {tmp_path}/more"):
        collect([str(source), str(tmp_path / "more")])
    (tmp_path / "more/app.py").touch()
    assert sorted(collect([str(source), str(tmp_path / "more")])) == [
        *("app.py", "public/assets/page.css", "public/index.php")
    ]


@pytest.mark.parametrize("name", ["public/../../etc/passwd", "/etc/passwd", ".."])
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match="no file within its folder"):
        unpack(str(tmp_path / "bad.tar"), str(tmp_path / "releases/one"))
    assert list((tmp_path / "releases").iterdir()) == []


def test_what_was_changed_by_hand_is_seen_and_put_right(source: Path, archive: Path, tmp_path: Path) -> None:
    name = f"1.0-{digest(collect([str(source)]))}"
    folder = tmp_path / "releases" / name
    assert not is_intact(str(folder), name)
    unpack(str(archive), str(folder))
    for change in (
        lambda: (folder / "public/index.php").write_text("<?php echo 1;\n"),
        lambda: (folder / "public/more.php").write_text("<?php\n"),
        lambda: (folder / "public/index.php").unlink(),
        lambda: (folder / "public/index.php").chmod(0o666),
        lambda: (folder / "public/index.php").rename(folder / "index.php"),
    ):
        assert is_intact(str(folder), name)
        change()
        assert not is_intact(str(folder), name)
        unpack(str(archive), str(folder))
    assert is_intact(str(folder), name)
    assert superfluous(str(folder.parent), name, keep=0)[0].startswith(".")


def test_an_archive_of_another_release_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not hold the release one-0123456789ab"):
        unpack(str(archive), str(tmp_path / "releases/one-0123456789ab"))
    assert list((tmp_path / "releases").iterdir()) == []


def test_the_link_changes_in_one_step_and_old_releases_go(tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    for age, name in enumerate(("d", "c", "b", "a")):
        (releases / name).mkdir(parents=True)
        os.utime(releases / name, (1000 + age, 1000 + age))
    (releases / ".interrupted").mkdir()
    link(str(tmp_path / "current"), "releases/d")
    link(str(tmp_path / "current"), "releases/a")
    assert (tmp_path / "current").readlink() == Path("releases/a")
    assert superfluous(str(releases), "a", keep=2) == [".interrupted", "d"]


def test_a_host_is_brought_what_it_lacks_and_back(source: Path, tmp_path: Path) -> None:
    one = {"source": [str(source)], "version": "1.0", "keep": 1}
    name = f"1.0-{digest(collect([str(source)]))}"
    page = "host/current/public/index.php"
    checked, _, first, again, _, repaired, _, second, _, back, unknown, _, damaged = play(
        tmp_path,
        {**one, "check_mode": True},
        "test ! -e host",
        dict(one),
        dict(one),
        f"echo more >> {page}",
        dict(one),
        "echo new > source/public/new.php",
        dict(one),
        "mkdir host/releases/older && touch -d yesterday host/releases/older",
        {"name": name, "keep": 1},
        {"name": "../releases"},
        f"chmod 0666 {page}",
        {"name": name},
    )
    assert [step["changed"] for step in (checked, first, again, repaired, second, back)] == [
        *(True, True, False, True, True, True)
    ]
    assert [step["name"] for step in (checked, first, again, repaired)] == [name] * 4
    assert repaired["diff"]["before"] == f"{name}, changed by hand\n"
    assert second["previous"] == name != second["name"]
    assert (back["name"], back["previous"]) == (name, second["name"])
    assert "The release ../releases is not there. Others in" in unknown["msg"]
    assert f"{name}, {second['name']}" in unknown["msg"] or f"{second['name']}, {name}" in unknown["msg"]
    assert "was changed by hand" in damaged["msg"]
    assert sorted(path.name for path in (tmp_path / "host/releases").iterdir()) == sorted([name, second["name"]])
    assert (tmp_path / page).read_text() == "<?php\n"
