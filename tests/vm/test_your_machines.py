"""Machines that Vagrant has made and no more, in somebody's own inventory: docs/your-machines.md with user vagrant.

The box is as a public one: its user has sudo without a password, and no role's packages are on it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.vm.machines import changes, lab_of, libvirt_has, run
from tools.lab import ROOT, Lab
from tools.mutants import copy_project

MACHINES, MINE = "vmown", "vmmine"
INVENTORY = "inventories/vagrant-small"
ENVIRONMENT = {
    "LAB_NAME": MACHINES,
    "LAB_PROFILE": "small",
    "LAB_MEMORY": "1100",
    "VAGRANT_DOTFILE_PATH": f".vagrant/{MACHINES}",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone whose inventory names the machines; they stand, and nothing has been installed on them."""
    place = tmp_path_factory.mktemp("mine") / "lab"
    try:
        run(["vagrant", "up", "--no-provision"], ENVIRONMENT)
        copy_project(place)
        write_inventory(place)
        yield place
    finally:
        run(["vagrant", "destroy", "-f"], ENVIRONMENT)
        assert libvirt_has(MACHINES) == []


def write_inventory(place: Path) -> None:
    """What the page says, with Vagrant's user and the machines' keys."""
    subprocess.run(["cp", "-r", "inventories/example", "inventories/mine"], cwd=place, check=True)
    keys = ROOT / ".lab" / MACHINES / "ssh"
    known = place / "known_hosts"
    known.write_text("".join(path.read_text() for path in keys.glob("known_hosts.*")), encoding="utf-8")
    lab = lab_of(INVENTORY, MACHINES)
    groups = {
        group: {"hosts": {f"my-{machine.name}": {"ansible_host": machine.address} for machine in lab.group(group)}}
        for group in ("control", "database", "backend", "frontend")
    }
    common = {
        "lab_default_name": MINE,
        "ansible_user": "vagrant",
        "ansible_ssh_private_key_file": str(keys / "id_ed25519"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
    }
    text = yaml.safe_dump({"lab": {"vars": common, "children": groups}})
    (place / "inventories/mine/hosts.yml").write_text(text, encoding="utf-8")


def mine(place: Path) -> Lab:
    """The lab of that inventory."""
    return lab_of(str(place / "inventories/mine"), MINE)


def in_clone(place: Path, command: str) -> str:
    """Run a command of the page there."""
    return run(["env", "-C", str(place), f"ANSIBLE_CONFIG={place / 'ansible.cfg'}", "bash", "-c", command])


def test_from_empty_machines_to_the_page(clone: Path) -> None:
    in_clone(clone, "make up INVENTORY=mine")
    in_clone(clone, "make status INVENTORY=mine")
    page = in_clone(clone, f"curl -s http://{mine(clone).group('frontend')[0].address}/")
    assert "my-backend-1" in page


def test_a_second_run_changes_nothing(clone: Path) -> None:
    assert changes(in_clone(clone, "make up INVENTORY=mine")) == 0


def test_it_goes_off_again(clone: Path) -> None:
    playbook = ".venv/bin/ansible-playbook -i inventories/mine playbooks/uninstall.yml -e machine=all -e data=true"
    assert changes(in_clone(clone, playbook)) > 0
    ssh = mine(clone).group("frontend")[0].ssh
    assert "nginx" not in run(ssh("systemctl list-units --no-legend --plain; getent passwd; ls /etc /opt", timeout=60))
    assert not (clone / ".lab" / MINE / "secrets").exists()
