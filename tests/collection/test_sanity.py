"""Ansible's own checks of a collection, on what is in the tarball; what they may find is in tests/sanity."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import BIN, run_command
from tools.lab import ROOT

# Lint has these of its own (ruff, yamllint), or they are slow. `--skip-test` aside, all run.
SKIPPED = ("pep8", "pylint", "yamllint")
# The checks' environments, which are kept.
HOME = ROOT / ".lab" / "ansible-test"
# Each begins with a pip that ansible-test fetches from a place of its own, which a network of packages alone does not
# reach. Where it finds that script, it takes it: this one is Python's own pip.
PIP = HOME / ".ansible" / "test" / "cache" / "get_pip_24_2.py"


@pytest.mark.timeout(400)
def test_ansibles_own_checks_pass(tmp_path: Path) -> None:
    place = tmp_path / "ansible_collections/hashistack/lab"
    shutil.copytree(ROOT / "tests/sanity", place / "tests/sanity")
    subprocess.run(["make", "collection"], cwd=ROOT, check=True, capture_output=True)
    (tarball,) = (ROOT / "dist").glob("*.tar.gz")
    subprocess.run(["tar", "--extract", "--file", tarball, "--directory", place], check=True)
    PIP.parent.mkdir(parents=True, exist_ok=True)
    PIP.write_text("import ensurepip\nensurepip.bootstrap()\n", encoding="utf-8")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [str(BIN / "ansible-test"), "sanity", "--python", version]
    skipped = [word for name in SKIPPED for word in ("--skip-test", name)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    run_command([*command, *skipped], place, {**environment, "HOME": str(HOME)}, 380).require()
