"""`vagrant up` with the small profile, to its end and back. Without KVM this takes the better part of an hour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import BIN
from tests.vm.machines import acceptance, changes, instances, lab_of, libvirt_has, resolved, run, wait_for
from tools.lab import Lab

NAME = "vmtest"
INVENTORY = "inventories/vagrant-small"
# With a folder of its own for what Vagrant notes, so that a lab in use is left alone.
ENVIRONMENT = {"LAB_NAME": NAME, "LAB_PROFILE": "small", "VAGRANT_DOTFILE_PATH": f".vagrant/{NAME}"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    try:
        run(["vagrant", "up"], ENVIRONMENT)
        yield lab_of(INVENTORY, NAME)
    finally:
        run(["vagrant", "destroy", "-f"], ENVIRONMENT)
        assert libvirt_has(NAME) == []


def test_lab_is_healthy(lab: Lab) -> None:
    wait_for(lab, {"backend-1", "backend-2"}, 60)
    run([str(BIN / "python"), "-m", "tools.status", "-i", INVENTORY, "--patience", "60"], ENVIRONMENT)


def test_second_run_changes_nothing(lab: Lab) -> None:
    assert lab
    assert changes(run(["vagrant", "provision"], ENVIRONMENT)) == 0


def test_halted_backend_leaves(lab: Lab) -> None:
    run(["vagrant", "halt", "backend-2"], ENVIRONMENT)
    wait_for(lab, {"backend-1"}, 60)
    assert instances(lab)["backend-2"] == "critical"
    assert resolved(lab, "backend.service.consul") == {lab.machine("backend-1").address}
    run(["vagrant", "up", "--no-provision", "backend-2"], ENVIRONMENT)
    wait_for(lab, {"backend-1", "backend-2"}, 600)


def test_acceptance(lab: Lab) -> None:
    assert lab
    acceptance(INVENTORY, NAME)
