"""Which program a host gets: by its processor, and by the file's content."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from plugins.filter.program import program_digest
from tools.lab import ROOT

ARTIFACTS = {
    "architecture": "x86_64",
    "programs": {"consul": "/x86_64/consul"},
    "other_programs": {"aarch64": {"consul": "/aarch64/consul"}},
}
VARIABLES = yaml.safe_load((ROOT / "inventories/group_vars/lab/lab.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("facts", "chosen"),
    [
        ({}, "/x86_64/consul"),
        ({"architecture": "x86_64"}, "/x86_64/consul"),
        ({"architecture": "aarch64"}, "/aarch64/consul"),
        ({"architecture": "riscv64"}, "none"),
    ],
)
def test_a_host_gets_what_its_processor_runs(facts: dict[str, str], chosen: str) -> None:
    names = ("lab_architecture", "lab_programs")
    texts = {name: trust_as_template(VARIABLES[name]) for name in names}
    variables: dict[str, Any] = {**texts, "lab_artifacts": ARTIFACTS, "ansible_facts": facts}
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.template(trust_as_template("{{ lab_programs.consul | default('none') }}")) == chosen


def test_a_programs_name_follows_from_its_content(tmp_path: Path) -> None:
    file = tmp_path / "consul"
    file.write_text("abc")
    file.chmod(0o755)
    assert program_digest(str(file)) == "ba7816bf8f01cfea", "as SHA-256 of it begins"
    (tmp_path / "link").symlink_to(file)
    assert program_digest(str(tmp_path / "link")) == "ba7816bf8f01cfea"
    file.write_text("another")
    assert program_digest(str(file)) != "ba7816bf8f01cfea"


def test_what_is_no_program_is_named(tmp_path: Path) -> None:
    file = tmp_path / "consul"
    with pytest.raises(AnsibleFilterError, match=r"consul is not a program on the controller\. Give the path"):
        program_digest(str(file))
    file.write_text("abc")
    with pytest.raises(AnsibleFilterError):
        program_digest(str(file))  # Nobody may execute it.
    with pytest.raises(AnsibleFilterError):
        program_digest(str(tmp_path))


def test_a_programs_content_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "consul"
    file.write_text("abc")
    file.chmod(0o755)
    status = file.stat()
    first = program_digest(str(file))
    file.write_text("cba")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert program_digest(str(file)) == first


def test_what_cannot_be_prepared_is_said_by_the_run() -> None:
    arguments = '{"architectures": ["riscv64"]}'
    done = subprocess.run(
        [ROOT / ".venv/bin/ansible", "localhost", "-m", "hashistack.lab.prepare", "-a", arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = "prepare: There are no programs for the architecture 'riscv64'. Use one of: x86_64, aarch64."
    assert done.returncode != 0
    assert done.stdout.count(said) >= 1, done.stdout + done.stderr
