"""A lab is its clone's, and one command at a time works on it; all others are told so and touch nothing."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.module_utils import lab_owner
from tests.running import BIN, Run, Running, begin, end, run_command
from tools.lab import ROOT
from tools.mutants import copy_project

SECONDS = 120


class Clone:
    """Another clone of the project, in which a user gives commands for the lab under test."""

    def __init__(self, place: Path, running: Running) -> None:
        self.place, self.running = place, running
        self.state = place / ".lab" / running.lab.name
        self.environment = {**running.environment(), "ANSIBLE_CONFIG": str(place / "ansible.cfg")}

    def run(self, *command: str, **environment: str) -> Run:
        """Run a command in this clone."""
        return run_command(command, self.place, {**self.environment, **environment}, SECONDS)

    def playbook(self, *arguments: str) -> Run:
        """Run ansible-playbook as the tests do in their own clone, but here."""
        return self.run(*self.running.command(*arguments))


@pytest.fixture
def elsewhere(running: Running, tmp_path: Path) -> Clone:
    """A second clone beside the one under test, prepared, which has never made a lab."""
    copy_project(tmp_path / "elsewhere")
    return Clone(tmp_path / "elsewhere", running)


def as_root(*command: str) -> str:
    """What a command prints that only root may run."""
    words = [*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


def machines(running: Running) -> dict[str, str]:
    """The lab's machines and the processes that run them, new ones after a reboot."""
    words = ["ps", "-C", "systemd-nspawn", "-o", "pid=,args="]
    out = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout
    found = re.findall(rf"^ *(\d+) .*--machine={running.lab.name}-(\S+)", out, re.MULTILINE)
    return {name: pid for pid, name in found}


def fingerprint(running: Running) -> dict[str, str]:
    """Everything that a command on the lab would change: its keys, its machines, whose they are."""
    files = [path for path in running.lab.directory.rglob("*") if path.is_file() and path.name != "lock"]
    sums = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    owner = Path(running.lab.machines_directory, "owner.json").read_text()
    return {**sums, **machines(running), "owner": owner}


def require_refusal(run: Run, *parts: str) -> None:
    """A command has ended with one sentence that says all of ``parts``."""
    assert run.code != 0, run.output[-3000:]
    sentences = [line for line in run.output.splitlines() if line.startswith("[ERROR]")]
    assert len(sentences) == 1, run.output[-3000:]
    assert all(part in sentences[0] for part in parts), sentences[0]
    assert "Nothing was changed." in sentences[0]


@pytest.mark.late(14)
@pytest.mark.timeout(400)
def test_a_second_clone_touches_nothing(running: Running, elsewhere: Clone) -> None:
    before = fingerprint(running)
    inventory = f"INVENTORY={running.inventory[0]}"
    commands = [
        elsewhere.run("make", "up", inventory),
        elsewhere.run("make", "up", "ADOPT=1", inventory),
        elsewhere.run("make", "down", inventory),
        elsewhere.run("make", "down", "KEEP=1", inventory),
        elsewhere.run("make", "down", "ADOPT=1", inventory),
        elsewhere.playbook("site.yml", "--check"),
        elsewhere.playbook("site.yml", "--tags", "frontend"),
        elsewhere.playbook("site.yml", "--limit", running.names("backend")[0]),
        elsewhere.playbook("playbooks/machines.yml"),
        elsewhere.playbook("playbooks/remove.yml", "-e", f"machine={running.names('backend')[-1]}"),
        elsewhere.playbook("playbooks/rotate_database_password.yml"),
    ]
    for run in commands:
        require_refusal(run, f"belongs to the clone in {ROOT} (user", "work there", "'LAB_NAME=other make up'")
    assert f"belongs to the clone in {ROOT}" in elsewhere.run("make", "status", inventory).output
    assert not elsewhere.state.exists()
    assert fingerprint(running) == before
    assert running.lab.get(running.page).status_code == 200


@pytest.mark.parametrize(
    ("kind", "inventory", "says"),
    [
        ("vagrant", "vagrant", "'LAB_NAME=v make vm-down' removes machines of kind vagrant"),
        ("vagrant", "containers", "is of kind vagrant, and this command is for kind containers"),
        ("containers", "vagrant", "is of kind containers, and this command is for kind vagrant"),
        ("other", "own", "take the lab off them by playbooks/uninstall.yml"),
    ],
)
def test_down_keeps_the_keys_of_machines_that_it_does_not_remove(
    elsewhere: Clone, kind: str, inventory: str, says: str
) -> None:
    own = elsewhere.place / "inventories" / "own"
    own.mkdir()
    (own / "hosts.yml").write_text("lab: { children: { control: { hosts: { control-1: { lab_index: 11 } } } } }")
    (own / "group_vars").symlink_to("../group_vars")
    (own / "connection.yml").symlink_to("../example/connection.yml")
    directory = elsewhere.place / ".lab" / "v"
    lab_owner.settle(str(directory), kind)
    (directory / "secrets.json").touch()
    require_refusal(elsewhere.run("make", "down", f"INVENTORY={inventory}", LAB_NAME="v"), says)
    assert sorted(path.name for path in directory.iterdir()) == ["lab.json", "secrets.json"]


@pytest.mark.late(14)
@pytest.mark.timeout(400)
def test_a_clone_that_was_moved_adopts_its_lab(running: Running, elsewhere: Clone) -> None:
    before = machines(running)
    shutil.copytree(running.lab.directory, elsewhere.state, symlinks=True)
    name = running.lab.name
    require_refusal(elsewhere.playbook("site.yml"), str(ROOT), f"'LAB_NAME={name} make up ADOPT=1'")
    try:
        adopted = elsewhere.playbook("playbooks/machines.yml", "-e", "lab_adopt=true").require()
        assert sum(adopted.changed.values()) == 1, adopted.output[-6000:]
        elsewhere.playbook("site.yml", "--tags", "frontend").require()
        require_refusal(running.playbook("playbooks/down.yml"), f"belongs to the clone in {elsewhere.place}")
    finally:
        running.playbook("playbooks/machines.yml", "-e", "lab_adopt=true").require()
    assert machines(running) == before


@pytest.mark.late(14)
@pytest.mark.timeout(400)
def test_a_lab_of_before_owners_is_of_the_clone_whose_key_it_lets_in(running: Running, elsewhere: Clone) -> None:
    before = machines(running)
    as_root("rm", f"{running.lab.machines_directory}/owner.json")
    (running.lab.directory / "lab.json").unlink()
    require_refusal(elsewhere.playbook("playbooks/down.yml"), "belongs to the clone whose key it lets in")
    run = running.playbook("playbooks/machines.yml").require()
    assert sum(run.changed.values()) == 1, run.output[-6000:]
    assert running.playbook("playbooks/machines.yml").require().changed == {}
    assert machines(running) == before
    require_refusal(elsewhere.playbook("playbooks/down.yml"), f"belongs to the clone in {ROOT}")


@pytest.fixture
def first(running: Running) -> Iterator[subprocess.Popen[str]]:
    """A run of site.yml that has begun with the machines, and stands still there."""
    process = begin(running, "site.yml", until="PLAY [Machines]")
    process.send_signal(signal.SIGSTOP)
    yield process
    end(process)


@pytest.mark.late(14)
@pytest.mark.timeout(400)
def test_of_two_runs_at_once_one_works(running: Running, first: subprocess.Popen[str]) -> None:
    for playbook in ("site.yml", "playbooks/down.yml", "playbooks/rotate_database_password.yml"):
        second = running.playbook(playbook)
        require_refusal(second, f"by process {first.pid} of user", "since 20", "site.yml", f"'kill {first.pid}'")
    # Check mode changes nothing, so nobody needs to wait for the other.
    running.playbook("playbooks/machines.yml", "--check").require()
    end(first)
    running.playbook("playbooks/machines.yml").require()
    assert f"{first.pid}" not in (running.lab.directory / "lock").read_text()


@pytest.mark.late(14)
@pytest.mark.timeout(300)
def test_a_link_in_a_machine_leads_to_no_file_of_this_computer(running: Running, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    name = running.names("frontend")[0]
    running.sh(name, f"mv /root/.ssh /root/own && ln -s {theirs} /root/.ssh")
    running.playbook("playbooks/machines.yml", "--limit", name).require()
    assert list(theirs.iterdir()) == []
    assert theirs.stat().st_mode & 0o777 != 0o700
    running.sh(name, "rm -r /root/own && test -d /root/.ssh && ! test -L /root/.ssh")
    running.wait_healthy(60)


def test_forwarding_stays_on_for_others() -> None:
    """In a network of its own: this computer's may be in use."""
    module = [str(BIN / "ansible"), "localhost", "-m", "hashistack.lab.nspawn_network", "-a"]
    switch = "/proc/sys/net/ipv4/ip_forward"
    script = (
        f"set -e; ip link set lo up; echo 0 > {switch}; {' '.join(module)} 'bridge=hl-x address=10.80.1.1/24'; "
        f"cat {switch}; echo 1 > {switch}; {' '.join(module)} 'bridge=hl-x state=absent'; cat {switch}; ip link show"
    )
    out = as_root("env", "-C", str(ROOT), "unshare", "--net", "sh", "-c", script)
    assert "switched forwarding on" in out
    assert re.findall(r"^[01]$", out, re.MULTILINE) == ["1", "1"], out
    assert "hl-x:" not in out
