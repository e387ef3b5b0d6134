"""All files of a role in one task: what differs is written, shown and validated, and the rest left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plugins.modules.files import missing_users

ROOT = Path(__file__).resolve().parents[2]


class Host:
    """A folder of this computer as a host, which a playbook of one task puts files on."""

    def __init__(self, folder: Path) -> None:
        """Put the files into a folder, and the playbook beside it."""
        self.playbook, self.place = folder / "play.yml", folder / "host"
        (folder / "templates").mkdir()
        (folder / "templates" / "hello.j2").write_text("{# why #}\nhello {{ who }}\n")

    def put(self, *files: dict[str, Any], check: bool = False, **variables: str) -> tuple[dict[str, Any], str]:
        """The task's result and all that Ansible printed, with as many details as it knows."""
        files = tuple({**item, "path": str(self.place / item["path"])} for item in files)
        tasks = [
            {"hashistack.lab.files": {"files": list(files)}, "register": "result", "ignore_errors": True},
            {
                "ansible.builtin.copy": {
                    "content": "{{ result | to_json }}",
                    "dest": f"{self.playbook}.json",
                    "mode": "0600",
                }
            }
            | {"check_mode": False},
        ]
        play = {"hosts": "localhost", "gather_facts": False, "become": False, "tasks": tasks, "vars": {"who": "you"}}
        self.playbook.write_text(json.dumps([play]))
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            "localhost,",
            "-c",
            "local",
            "-D",
            "-vvv",
        ]
        options = [*(["--check"] if check else []), "-e", json.dumps(variables), str(self.playbook)]
        done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(Path(f"{self.playbook}.json").read_text()), done.stdout + done.stderr

    def read(self, path: str) -> str:
        """A file's text."""
        return (self.place / path).read_text()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_differs_is_written_and_nothing_twice(host: Host) -> None:
    files: tuple[dict[str, Any], ...] = (
        {"path": "d", "state": "directory", "mode": "0750"},
        {"path": "x/hello", "template": "hello.j2", "validate": "grep -q hello %s"},
        {"path": "key", "content": "geheim {{ who }}\n", "mode": "0600", "no_log": True},
        {"path": "once", "content": "{{ who }}", "force": False},
        {"path": "program", "link": "x/hello"},
        {"path": "later", "link": "x/nothing"},
        {"path": "never", "content": "", "if": False},
    )
    result, _ = host.put(*files, check=True)
    assert result["changed"]
    assert not host.place.exists()
    result, output = host.put(*files)
    assert "geheim" not in output
    assert (host.read("x/hello"), host.read("key"), host.read("program")) == (
        "hello you\n",
        "geheim you\n",
        "hello you\n",
    )
    assert [oct((host.place / path).stat().st_mode & 0o777) for path in ("d", "x", "key")] == [
        "0o750",
        "0o755",
        "0o600",
    ]
    assert result["missing"] == [str(host.place / "x/nothing")]
    assert not (host.place / "later").is_symlink()
    assert not (host.place / "never").exists()
    assert not host.put(*files)[0]["changed"]
    (host.place / "d").chmod(0o777)
    result, output = host.put(*files, who="me")
    assert result["written"] == [str(host.place / path) for path in ("d", "x/hello", "key")]
    assert "+hello me" in output
    assert "geheim" not in output
    assert host.read("once") == "you"


def test_a_file_that_its_program_refuses_is_not_written(host: Host) -> None:
    good = {"path": "hello", "template": "hello.j2", "validate": "grep -q hello %s"}
    host.put(good)
    result, _ = host.put(
        {**good, "validate": "grep goodbye %s /nonexistent"}, {"path": "after", "content": ""}, who="me"
    )
    assert result["failed"]
    assert "hello would be wrong and was not written: 'grep' says: " in result["msg"]
    assert host.read("hello") == "hello you\n"
    assert not (host.place / "after").exists()


def test_two_sources_are_an_error_before_anything_is_written(host: Host) -> None:
    result, _ = host.put({"path": "a", "content": ""}, {"path": "b", "content": "", "copy": "x"})
    assert result["failed"]
    assert "b has copy and content: give one of" in result["msg"]
    assert not host.place.exists()


def test_users_that_are_missing() -> None:
    lines = [
        "u root - - /root",
        "u nobody-knows - - /",
        "g root",
        "g nobody-knows",
        "m root root",
        "m nobody-knows root",
    ]
    assert missing_users(lines) == [lines[1], lines[3], lines[4], lines[5]]
