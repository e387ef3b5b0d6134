"""A service comes into the lab by what docs/add-a-service.md says, and nothing else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.module_utils.lab_owner import own_lab
from tests.running import Run, run_command
from tools.lab import ROOT
from tools.mutants import copy_project

PAGE = (ROOT / "docs/add-a-service.md").read_text(encoding="utf-8")
# What stands before a block: a new file, or an old one and where in it.
FILES = re.compile(
    r"^.*?(?P<how>New|In) `(?P<path>[^`]+)`(?:, (?:below `(?P<line>.+?)`|at the end))?[^`]*:\n"
    r"```\w+\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# One machine of a kind is enough here.
SPARE = re.compile(r"^ +(control-[23]|(backend|database)-2):.*\n", re.MULTILINE)


class Clone:
    """A clone of the project with a lab of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.name = own_lab(str(place), "add")

    def run(self, command: str) -> Run:
        """Run a command of the shell in it."""
        environment = {**os.environ, "LAB_NAME": self.name, "ANSIBLE_CONFIG": str(self.place / "ansible.cfg")}
        return run_command(["bash", "-c", command], self.place, {**environment, "ANSIBLE_NOCOLOR": "1"}, 580)

    def status(self) -> dict[str, tuple[str, str]]:
        """State and level of each service."""
        lines = json.loads(self.run(".venv/bin/python -m tools.status --json").output)["lines"]
        return {line["name"]: (line["state"], line["level"]) for line in lines if line["section"] == "Services"}

    def traces(self, machine: str) -> list[str]:
        """What of a machine the controller and Consul still hold."""
        tokens = (
            self.run(f"source .lab/{self.name}/env && consul acl token list && consul catalog nodes").require().output
        )
        folder = self.place / ".lab" / self.name
        files = [str(path.relative_to(folder)) for path in folder.rglob("*.pem") if machine in str(path)]
        return [*files, *re.findall(rf"\S*\b{machine}\b", tokens)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone in which somebody has followed the page up to its commands."""
    place = tmp_path_factory.mktemp("clone") / "lab"
    copy_project(place)
    for step in FILES.finditer(PAGE):
        file, text = place / step["path"], step["text"]
        file.parent.mkdir(parents=True, exist_ok=True)
        assert file.exists() == (step["how"] == "In"), file
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        after = before.replace(f"\n{step['line']}\n", f"\n{step['line']}\n{text}", 1) if step["line"] else before + text
        assert after != before, f"{file} has no line '{step['line']}'"
        file.write_text(after, encoding="utf-8")
    hosts = place / "inventories/containers/hosts.yml"
    hosts.write_text(SPARE.sub("", hosts.read_text(encoding="utf-8")), encoding="utf-8")
    made = Clone(place)
    yield made
    made.run("make down")


@pytest.mark.timeout(900)
def test_it_comes_up_and_serves_whom_it_should(clone: Clone) -> None:
    up, ask = COMMANDS[0].strip().splitlines()
    said = clone.run(up).require().output
    assert re.search(r"hello +2/2 +all passing", said), said[-3000:]
    assert clone.status()["hello"] == ("2/2", "good")
    assert set(clone.traces("hello-1")) == {
        "tls/hello-1/consul.pem",
        "tls/hello-1/hello.pem",
        "agent/hello-1",
        "hello/hello-1",
        "hello-1",
    }
    assert re.search(r"^hello from hello-[12]$", clone.run(ask).require().output, re.MULTILINE)
    assert "403 Forbidden" in clone.run(ask.replace("ansible frontend", "ansible backend")).require().output
    found = clone.run(".venv/bin/ansible lab -m command -a 'dig +short hello.service.consul'").require().output
    assert len(re.findall(r"^10\.\S+\.6[12]$", found, re.MULTILINE)) == 2 * 6, found


@pytest.mark.timeout(600)
def test_a_second_run_changes_nothing(clone: Clone) -> None:
    again = clone.run(".venv/bin/ansible-playbook site.yml").require()
    assert again.changed == {}, again.output[-6000:]


@pytest.mark.timeout(600)
def test_a_machine_of_it_goes_without_a_trace(clone: Clone) -> None:
    clone.run(COMMANDS[1]).require()
    hosts = clone.place / "inventories/containers/hosts.yml"
    hosts.write_text(
        re.sub(r"^ +hello-2:.*\n", "", hosts.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8"
    )
    assert clone.status()["hello"] == ("1/1", "good")
    assert clone.traces("hello-2") == []
    assert clone.run("make status").code == 0
