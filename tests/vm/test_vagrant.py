"""`vagrant up` with the small profile, to its end and back. Without KVM this takes the better part of an hour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.machines import BIN, ROOT, acceptance, addresses, changes, libvirt_has, resolved, run, wait_for

NAME = "vmtest"
INVENTORY = "inventories/vagrant-small"
# With a folder of its own for what Vagrant notes, so that a lab in use is left alone.
ENVIRONMENT = {"LAB_NAME": NAME, "LAB_PROFILE": "small", "VAGRANT_DOTFILE_PATH": f".vagrant/{NAME}"}
AUTHORITY = ROOT / ".lab" / NAME / "tls/ca.pem"


@pytest.fixture(scope="module")
def frontend() -> Iterator[str]:
    try:
        run(["vagrant", "up"], ENVIRONMENT)
        yield addresses(INVENTORY, NAME)["frontend-1"]
    finally:
        run(["vagrant", "destroy", "-f"], ENVIRONMENT)
        assert libvirt_has(NAME) == []


def test_lab_is_healthy(frontend: str) -> None:
    wait_for(frontend, AUTHORITY, {"backend-1", "backend-2"}, 60)
    run([str(BIN / "python"), "-m", "tools.status", "-i", INVENTORY], ENVIRONMENT)


def test_second_run_changes_nothing(frontend: str) -> None:
    assert frontend
    assert changes(run(["vagrant", "provision"], ENVIRONMENT)) == 0


def test_halted_backend_leaves(frontend: str) -> None:
    run(["vagrant", "halt", "backend-2"], ENVIRONMENT)
    wait_for(frontend, AUTHORITY, {"backend-1"}, 60)
    assert resolved("backend.service.consul", INVENTORY, NAME) == {addresses(INVENTORY, NAME)["backend-1"]}
    run(["vagrant", "up", "--no-provision", "backend-2"], ENVIRONMENT)
    wait_for(frontend, AUTHORITY, {"backend-1", "backend-2"}, 600)


def test_acceptance(frontend: str) -> None:
    assert frontend
    acceptance(INVENTORY, NAME)
