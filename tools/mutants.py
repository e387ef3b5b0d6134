"""Breaks each role once on purpose, in a copy of the project, and expects its Molecule scenario to turn red for it.

A break counts as found only if the scenario's machines converge and the test that is meant for it fails. The check of
idempotence and check mode are left out: they would find other things.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MOLECULE = ROOT / ".venv" / "bin" / "molecule"
LOGS = ROOT / ".lab" / "logs"
STOPPED = threading.Event()
"""Set once the command is told to end: what runs is then removed, and nothing else begun."""


class Mutant(NamedTuple):
    """One break: in ``file``, ``old`` becomes ``new``, and ``test`` of the role's scenario must fail."""

    role: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    Mutant(
        "dnsmasq",
        "roles/dnsmasq/templates/dnsmasq.service.j2",
        "Restart=on-failure",
        "Restart=no",
        "test_a_killed_dnsmasq_is_back_at_once",
    ),
    Mutant(
        "consul",
        "roles/consul/templates/consul.json.j2",
        "'acl': {'enabled': true, 'default_policy': 'deny', 'enable_token_persistence': false},",
        "'acl': {'enabled': true, 'default_policy': 'allow', 'enable_token_persistence': false},",
        "test_without_a_token_nothing_is_told_and_nothing_taken",
    ),
    Mutant(
        "vault",
        "roles/vault/templates/vault-unseal.service.j2",
        "PartOf=vault.service\n",
        "",
        "test_an_operators_seal_holds_until_the_next_start",
    ),
    Mutant(
        "postgresql",
        "roles/postgresql/templates/pg_hba.conf.j2",
        "hostssl   {{",
        "host      {{",
        "test_refused",
    ),
    Mutant(
        "vault_agent",
        "roles/vault_agent/templates/agent.json.j2",
        "default('0640')",
        "default('0644')",
        "test_they_are_in_memory_and_for_one_group_alone",
    ),
    Mutant(
        "backend",
        "roles/backend/templates/backend.service.j2",
        "touch /run/backend/draining && ",
        "",
        "test_it_leaves_dns_before_it_stops",
    ),
    Mutant(
        "nginx",
        "roles/nginx/templates/nginx.service.j2",
        "Restart=always",
        "Restart=no",
        "test_a_killed_nginx_returns",
    ),
    Mutant(
        "frontend",
        "roles/frontend/templates/nginx.conf.j2",
        "proxy_next_upstream error timeout invalid_header http_502 http_503 http_504 non_idempotent;",
        "proxy_next_upstream off;",
        "test_a_backend_that_dies_fails_no_request",
    ),
)


def tracked() -> list[str]:
    """The project's files, new ones that git does not ignore among them."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def copy_project(place: Path) -> None:
    """Make a copy of the project that is prepared. Machines and their state are not copied."""
    for name in tracked():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place / name, follow_symlinks=False)
    (place / ".venv").symlink_to((ROOT / ".venv").resolve())
    (place / ".lab").mkdir(mode=0o700)
    shutil.copy2(ROOT / ".lab" / "artifacts.json", place / ".lab" / "artifacts.json")


def break_it(place: Path, mutant: Mutant) -> None:
    """Put the break into a copy."""
    file = place / mutant.file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def failed_tests(log: str) -> list[str]:
    """The names of the tests that failed.

    >>> failed_tests("FAILED molecule/x/tests/test_x.py::test_one[a b] - assert 1 == 2")
    ['test_one']
    """
    return re.findall(r"(?:FAILED|ERROR) \S+::(\w+)", log)


def judge(mutant: Mutant, codes: dict[str, int], log: str) -> str:
    """What is wrong with how a scenario ended; nothing if it is red in the intended place."""
    for step, code in codes.items():
        if step != "verify" and code:
            return f"the step {step} failed, before the tests"
    if codes.get("verify") == 0:
        return "all tests passed"
    return "" if mutant.test in failed_tests(log) else f"failed in {', '.join(failed_tests(log)) or 'no test'} instead"


def run(mutant: Mutant) -> bool:
    """Run the scenario of a broken copy; whether it was red in the intended place."""
    started = time.monotonic()
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"mutant-{mutant.role}.log"
    environment = {
        **os.environ,
        "MOLECULE_COMMAND_BORDERS": "0",
        "NO_COLOR": "1",
    }
    codes: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="lab-mutant-") as folder, log.open("w", encoding="utf-8") as stream:
        place = Path(folder)
        copy_project(place)
        break_it(place, mutant)

        def molecule(step: str) -> int:
            # Molecule looks for what the scenarios share at the top of a git repository, which the copy is not.
            shared = place / ".config" / "molecule" / "config.yml"
            return subprocess.run(
                [MOLECULE, "--base-config", shared, step, "--scenario-name", mutant.role],
                cwd=place,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode

        try:
            # `converge` creates and prepares the machines; the tests come after a reboot, as in `molecule test`.
            for step in ("destroy", "converge", "side-effect", "verify"):
                codes[step] = molecule(step)
                if codes[step] or STOPPED.is_set():
                    break
        finally:
            molecule("destroy")
    if STOPPED.is_set():
        print(f"{mutant.role:<12} {time.monotonic() - started:6.1f} s  stopped, and its machines removed", flush=True)
        return False
    problem = judge(mutant, codes, log.read_text(encoding="utf-8", errors="replace"))
    verdict = f"found by {mutant.test}" if not problem else f"NOT FOUND: {problem}; see {log.relative_to(ROOT)}"
    print(f"{mutant.role:<12} {time.monotonic() - started:6.1f} s  {verdict}", flush=True)
    return not problem


def stop(_number: int, _frame: object) -> None:
    """End as Ctrl-C does, so that no machine and no copy stays behind."""
    raise KeyboardInterrupt


def main() -> int:
    """Try the breaks of the roles named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("role", nargs="*", help="all unless named")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    options = parser.parse_args()
    roles = {mutant.role for mutant in MUTANTS}
    if unknown := sorted(set(options.role) - roles):
        parser.error(f"there is no break for {', '.join(unknown)}: there are {', '.join(sorted(roles))}")
    chosen = [mutant for mutant in MUTANTS if not options.role or mutant.role in options.role]
    signal.signal(signal.SIGTERM, stop)
    started = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            found = list(pool.map(run, chosen))
        except KeyboardInterrupt:
            STOPPED.set()
            pool.shutdown(wait=False, cancel_futures=True)
            print("Stopped: what runs ends its step, and its machines are removed.", file=sys.stderr, flush=True)
            return 130
    print(f"\n{sum(found)} passed, {len(found) - sum(found)} failed in {time.monotonic() - started:.0f} s")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
