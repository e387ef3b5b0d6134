"""The deliberate breaks of the roles still fit the files that they break, and the tests that must find them exist."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools import role_readme
from tools.mutants import MUTANTS, ROOT, Mutant, judge
from tools.running import wait_until

ONE = MUTANTS[0]
# What other roles are made of is tested with them.
PARTS = {"consul_service", "packages", "program"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.role)
def test_it_changes_one_place_and_its_test_exists(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.old != mutant.new
    tests = (ROOT / "molecule" / mutant.role / "tests" / f"test_{mutant.role}.py").read_text(encoding="utf-8")
    assert f"def {mutant.test}(" in tests


def test_every_role_has_a_scenario_and_a_break() -> None:
    roles = sorted({role.name for role in role_readme.roles()} - PARTS)
    assert sorted(mutant.role for mutant in MUTANTS) == roles
    assert sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")) == roles


@pytest.mark.parametrize(
    ("codes", "log", "problem"),
    [
        ({"converge": 0, "verify": 1}, f"FAILED a/test_a.py::{ONE.test}[x] - assert 0", ""),
        ({"converge": 0, "verify": 1}, "FAILED a/test_a.py::test_other - x", "failed in test_other instead"),
        ({"converge": 0, "verify": 0}, "1 passed", "all tests passed"),
        ({"converge": 2}, "", "the step converge failed, before the tests"),
    ],
)
def test_only_red_in_the_intended_place_counts(codes: dict[str, int], log: str, problem: str) -> None:
    assert judge(ONE, codes, log) == problem


def test_one_that_is_stopped_removes_its_machines_and_begins_no_other(tmp_path: Path) -> None:
    steps, molecule, copies = tmp_path / "steps", tmp_path / "molecule", tmp_path / "copies"
    molecule.write_text(f"#!/bin/sh\necho $3 $5 >> {steps}\ntest $3 != converge || exec sleep 2\n")
    molecule.chmod(0o755)
    copies.mkdir()
    program = f"""
import sys
from pathlib import Path
from tools import mutants
mutants.MOLECULE, mutants.LOGS = Path("{molecule}"), Path("{tmp_path}")
mutants.copy_project = mutants.break_it = lambda *_: None
sys.exit(mutants.main())
"""
    command = [sys.executable, "-c", program, "--jobs", "1", "dnsmasq", "nginx"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(copies)}) as run:
        wait_until(lambda: steps.exists() and "converge" in steps.read_text(), 30, "the machines are being made")
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == 130
    role = steps.read_text().split()[1]
    assert steps.read_text().splitlines() == [f"{step} {role}" for step in ("destroy", "converge", "destroy")]
    assert list(copies.iterdir()) == []
