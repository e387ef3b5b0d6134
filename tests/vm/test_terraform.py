"""`terraform apply` (or tofu) with one backend, then two, then one. Without KVM: the better part of an hour."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import BIN
from tests.vm.machines import acceptance, changes, lab_of, libvirt_has, run, wait_for
from tools.lab import ROOT, Lab

NAME = "tftest"
INVENTORY = "inventories/terraform"
ENVIRONMENT = {"LAB_NAME": NAME}
VM = [str(BIN / "python"), "-m", "tools.vm"]
PLAYBOOK = str(BIN / "ansible-playbook")
PLAN = re.compile(r"Plan: (\d+) to add, (\d+) to change, (\d+) to destroy")
PER_MACHINE = 6
"""Resources of a machine: its image, its disk, its seed as a file and as a disk, its domain, and that it answers."""
SECONDS = 900
"""The longest apply. The provider can lock itself up (docs/terraform.md): that must end."""


def terraform(action: str, backends: int) -> str:
    variables = ["-var-file=small.tfvars", f"-var=lab_name={NAME}", f"-var=backend_instance_count={backends}"]
    arguments = [action, "-auto-approve", "-input=false", "-no-color", *variables]
    return run([str(BIN / "python"), "-m", "tools.vm", "terraform", *arguments], ENVIRONMENT, SECONDS)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    state = ROOT / "terraform/terraform.tfstate"
    if state.exists() and json.loads(state.read_text())["resources"]:
        pytest.fail("Terraform's state holds a lab in use: remove it first (make vm-down).")
    run([str(BIN / "python"), "-m", "tools.vm", "prepare", "terraform", f"--name={NAME}"])
    try:
        terraform("apply", 1)
        run([PLAYBOOK, "-i", INVENTORY, "site.yml"], ENVIRONMENT)
        yield lab_of(INVENTORY, NAME)
    finally:
        terraform("destroy", 1)
        assert libvirt_has(NAME) == []


def test_one_backend(lab: Lab) -> None:
    wait_for(lab, {"backend-1"}, 60)
    run([str(BIN / "python"), "-m", "tools.status", "-i", INVENTORY, "--patience", "60"], ENVIRONMENT)
    assert changes(run([PLAYBOOK, "-i", INVENTORY, "site.yml"], ENVIRONMENT)) == 0


def test_another_image_is_for_new_machines(lab: Lab, tmp_path: Path) -> None:
    """As a new month, another program or recipe makes one."""
    assert lab
    image = tmp_path / "disk.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1G"])
    variables = ["-var-file=small.tfvars", f"-var=lab_name={NAME}", f"-var=image={image}"]

    def plan(backends: int, *more: str) -> str:
        counted = [*variables, f"-var=backend_instance_count={backends}", *more]
        return run([*VM, "terraform", "plan", "-input=false", "-no-color", *counted], ENVIRONMENT, SECONDS)

    assert "No changes." in plan(1)
    grown = PLAN.search(plan(2))
    assert grown
    assert grown.groups() == (str(PER_MACHINE + 1), "0", "0")  # and the image
    renewed = PLAN.search(plan(1, '-replace=terraform_data.image["backend-1"]'))
    assert renewed
    assert renewed.groups() == (str(PER_MACHINE + 1), "0", str(PER_MACHINE))


def test_a_disk_is_not_lost_unasked(lab: Lab) -> None:
    assert lab
    variables = ["-var-file=small.tfvars", f"-var=lab_name={NAME}", "-var=backend_instance_count=1"]
    lose = '-replace=libvirt_volume.disk["database-1"]'
    said = run([*VM, "apply", f"--name={NAME}", lose, *variables], ENVIRONMENT, SECONDS, status=1)
    assert "This would destroy database-1" in said


def test_another_clone_is_refused(lab: Lab, tmp_path: Path) -> None:
    """Whatever it runs, the lab stays, and so says one sentence whose it is."""
    run(["git", "clone", "-q", str(ROOT), str(tmp_path / "other")])
    (tmp_path / "other/.venv").symlink_to((ROOT / ".venv").resolve())
    for command in (["make", "vm-down"], ["vagrant", "destroy", "-f"], ["vagrant", "up"], ["make", "terraform-up"]):
        said = run(["env", "-C", str(tmp_path / "other"), *command], ENVIRONMENT, 600, status=None)
        assert f"Lab '{NAME}' belongs to the clone in {ROOT}" in said, said[-3000:]
    wait_for(lab, {"backend-1"}, 60)


def test_two_and_one_again(lab: Lab) -> None:
    grown = PLAN.search(terraform("apply", 2))
    assert grown
    assert grown.groups() == (str(PER_MACHINE), "0", "0")
    run([PLAYBOOK, "-i", INVENTORY, "site.yml"], ENVIRONMENT)
    wait_for(lab, {"backend-1", "backend-2"}, 120)
    acceptance(INVENTORY, NAME)

    shrunk = PLAN.search(terraform("apply", 1))
    assert shrunk
    assert shrunk.groups() == ("0", "0", str(PER_MACHINE))
    run([PLAYBOOK, "-i", INVENTORY, "playbooks/remove.yml", "-e", "machine=backend-2"], ENVIRONMENT)
    wait_for(lab, {"backend-1"}, 60)
    nodes = [node["Node"] for node in lab.consul().catalog.nodes()[1]]
    assert "backend-2" not in nodes
    assert "backend-2" not in lab.vault().list("auth/approle/role")["data"]["keys"]
