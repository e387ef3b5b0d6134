"""What can be said of virtual machines without one: boxes, checks, cleaning up, settings."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.filter.lab import lab_network
from plugins.inventory import lab_terraform
from plugins.module_utils import lab_owner
from tools import vm, vm_images, vm_libvirt, vm_terraform

ROOT = Path(__file__).resolve().parents[2]


def options(**values: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"name": "x", "memory": 2816, "made": 0, "box": "public"} | values)


def test_nothing_to_say_where_all_is_there(tmp_path: Path) -> None:
    box = tmp_path / "lab.box"
    box.touch()
    assert vm.check(options(box=str(box)), libvirt=True, memory_mib=8192) == []


@pytest.mark.parametrize(
    ("changes", "libvirt", "memory", "words"),
    [
        ({}, False, 8192, "libvirt does not answer"),
        ({"box": "/nowhere/lab.box"}, True, 8192, "make box"),
        ({"box": ""}, True, 8192, "make box"),
        ({}, True, 3000, "3000 MiB are free"),
    ],
)
def test_what_is_missing_is_a_sentence(changes: dict[str, Any], libvirt: bool, memory: int, words: str) -> None:
    problems = vm.check(options(**changes), libvirt, memory)
    assert len(problems) == 1
    assert words in problems[0]


def test_memory_is_no_question_where_the_machines_run_already() -> None:
    assert vm.check(options(made=5), libvirt=True, memory_mib=600) == []


OWNER = '{"folder": "/home/ann/lab", "id": "1-2", "user": "ann"}'


def libvirt(**more: str) -> tuple[list[tuple[str, ...]], Callable[..., str]]:
    """What virsh answers where the labs demo, demo2 and demo-more stand, and the calls that it got."""
    calls: list[tuple[str, ...]] = []
    answers = {
        "list --all --name": "hl-demo-backend-1\nhl-demo2-backend-1\nhl-demo-more-backend-1\nhers\n",
        "list --name": "hl-demo-backend-1\nhers\n",
        "domiflist hl-demo-backend-1": " vnet3   network   hl-demo   virtio   52:54:0a:50:01:65\n",
        "domiflist hl-demo-more-backend-1": " vnet4   network   hl-demo-more   virtio   52:54:0a:50:02:65\n",
        "net-list --all --name": "default\nhl-demo\nhl-demo-mgmt\nhl-demo2\n",
        "net-list --name": "default\nhl-demo\n",
        "pool-list --all --name": "default\nhl-demo\n",
        "pool-list --name": "default\nhl-demo\n",
        "vol-list hl-demo": " backend-1.qcow2   /x/backend-1.qcow2\n base.qcow2   /x/base.qcow2\n",
        **more,
    }

    def ask(*arguments: str) -> str:
        calls.append(arguments)
        return answers.get(" ".join(arguments), "")

    return calls, ask


def test_cleaning_up_touches_only_the_lab() -> None:
    calls, ask = libvirt()
    removed = vm_libvirt.clean("demo", ask)
    assert removed == ["domain hl-demo-backend-1", "network hl-demo", "network hl-demo-mgmt", "pool hl-demo"]
    changing = [call for call in calls if call[0].endswith(("destroy", "undefine", "delete"))]
    assert all(any(word.startswith(("hl-demo", "backend-1", "base")) for word in call[1:]) for call in changing)
    others = ("hers", "default", "hl-demo-more-backend-1", "hl-demo2-backend-1", "hl-demo2")
    assert not any(word in others for call in changing for word in call)


def test_a_pool_whose_folder_is_gone_is_removed_too() -> None:
    calls, ask = libvirt(**{"pool-list --name": "default\n"})
    assert "pool hl-demo" in vm_libvirt.clean("demo", ask)
    words = [call[0] for call in calls if call[0].startswith("pool-") and call[-1] == "hl-demo"]
    assert words == ["pool-build", "pool-start", "pool-destroy", "pool-undefine"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OWNER, lab_owner.Owner("/home/ann/lab", "ann", "1-2")),
        ("Source: /home/ann/lab/Vagrantfile", lab_owner.Owner("/home/ann/lab", "unknown", "")),
        ("No description for domain: hl-demo-backend-1", lab_owner.UNKNOWN),
    ],
)
def test_machines_say_whose_they_are(text: str, expected: lab_owner.Owner) -> None:
    _calls, ask = libvirt(**{"desc hl-demo-backend-1": f"{text}\n"})
    assert vm_libvirt.owner("demo", ask) == expected
    assert vm_libvirt.owner("demo3", ask) is None


def test_machines_are_marked_once() -> None:
    owner = lab_owner.Owner("/home/ann/lab", "ann", "1-2")
    calls, ask = libvirt()
    vm_libvirt.mark("demo", owner, ask)
    assert ("desc", "hl-demo-backend-1", "--config", "--live", "--new-desc", OWNER) in calls
    calls, ask = libvirt(**{"desc hl-demo-backend-1": OWNER})
    vm_libvirt.mark("demo", owner, ask)
    assert not any("--new-desc" in call for call in calls)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of its own, on a computer whose libvirt has the machines of Ann's labs `demo` and `vagrant`."""
    labs = {"demo": lab_owner.parse_owner(OWNER), "vagrant": lab_owner.parse_owner(OWNER)}
    for module, name in ((vm, "PROJECT"), (vm_terraform, "PROJECT")):
        monkeypatch.setattr(module, name, tmp_path)
    monkeypatch.setattr(vm, "LAB", tmp_path / ".lab")
    monkeypatch.setattr(vm_terraform, "MODULE", tmp_path / "terraform")
    monkeypatch.setattr(vm_libvirt, "answers", lambda: True)
    monkeypatch.setattr(vm_libvirt, "owner", labs.get)
    for change in ("clean", "mark", "remove_folder", "make_pool", "stop", "start"):
        monkeypatch.setattr(vm_libvirt, change, lambda *_, name=change: pytest.fail(f"{name} touched the lab"))
    monkeypatch.delenv("ADOPT", raising=False)
    return tmp_path


def note(clone: Path, name: str, kind: str) -> None:
    lab_owner.settle(str(clone / ".lab" / name), kind)


@pytest.mark.parametrize(
    "command",
    [
        "owner vagrant --name demo",
        "owner terraform --name demo --removing",
        "check vagrant --name demo --memory 100",
        "apply --name demo",
        "clean --name demo",
        "down --vagrant demo --terraform demo -var lab_name=demo",
    ],
)
@pytest.mark.usefixtures("clone")
def test_another_clones_machines_are_left_alone(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert vm.main(command.split()) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Lab 'demo' belongs to the clone in /home/ann/lab (user ann)" in said
    assert "LAB_NAME=other" in said


@pytest.mark.parametrize(
    "command", ["down --vagrant lab --terraform lab", "prepare vagrant --name lab", "apply --name lab"]
)
def test_the_keys_of_containers_stay(clone: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As `source .lab/env; make vm-down` has LAB_NAME=lab."""
    note(clone, "lab", "containers")
    assert vm.main(command.split()) == 1
    said = capsys.readouterr().err
    assert "Lab 'lab' of this clone is of kind containers" in said
    assert "unset LAB_NAME" in said
    assert (clone / ".lab/lab/lab.json").exists()


def test_down_removes_this_clones_lab_and_no_other(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(clone, "terraform", "terraform")
    cleaned: list[str] = []

    def clean(name: str) -> list[str]:
        cleaned.append(name)
        return []

    monkeypatch.setattr(vm_libvirt, "clean", clean)
    for change in ("remove_folder", "stop"):
        monkeypatch.setattr(vm_libvirt, change, lambda *_: None)
    assert vm.main(["down", "--vagrant=vagrant", "--terraform=terraform"]) == 0
    assert cleaned == ["terraform"]
    assert not (clone / ".lab/terraform").exists()


def test_keys_stay_where_machines_do(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    note(clone, "terraform", "terraform")
    state(clone, "hl-terraform")
    monkeypatch.setattr(vm_libvirt, "clean", lambda _: [])
    for change in ("remove_folder", "make_pool"):
        monkeypatch.setattr(vm_libvirt, change, lambda *_: None)
    monkeypatch.setattr(vm_terraform, "prepare", lambda _: ("tofu", {}))
    monkeypatch.setattr(vm_terraform, "call", lambda *_: 1)
    assert vm.main(["down", "--vagrant=other", "--terraform=terraform"]) == 1
    assert "its keys stay" in capsys.readouterr().err
    assert (clone / ".lab/terraform/lab.json").exists()


def state(clone: Path, network: str) -> None:
    (clone / "terraform").mkdir()
    resource = {"type": "libvirt_network", "name": "lab", "instances": [{"attributes": {"name": network}}]}
    (clone / "terraform/terraform.tfstate").write_text(json.dumps({"resources": [resource]}))


def test_another_labs_state_is_not_taken_for_this_labs(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state(clone, "hl-one")
    assert vm.main(["apply", "--name", "two"]) == 1
    assert "Terraform has made the lab 'one' in this clone" in capsys.readouterr().err


def change(address: str, *actions: str) -> dict[str, Any]:
    kind, _, index = address.partition("[")
    name = {"index": index.strip('"]')} if index else {}
    return {"address": address, "type": kind.split(".")[0], **name, "change": {"actions": list(actions)}}


def test_a_plan_loses_what_it_destroys_unasked() -> None:
    harmless = [
        change('libvirt_volume.disk["backend-2"]', "delete"),
        change('libvirt_domain.machine["backend-2"]', "delete"),
        change('libvirt_domain.machine["control-1"]', "delete", "create"),  # with its disk: a restart
        change('libvirt_volume.image["/a/disk.qcow2"]', "delete"),
        change('libvirt_volume.disk["backend-3"]', "create"),
    ]
    assert vm_terraform.lost({"resource_changes": harmless}) == []
    losing = [
        change('libvirt_volume.disk["backend-1"]', "delete", "create"),
        change('libvirt_volume.disk["control-2"]', "delete"),
        change("libvirt_network.lab", "delete", "create"),
    ]
    assert vm_terraform.lost({"resource_changes": harmless + losing}) == [
        "backend-1",
        "control-2",
        "the lab's network",
    ]


def test_box_has_what_vagrant_reads(tmp_path: Path) -> None:
    (tmp_path / "disk.qcow2").write_bytes(b"disk")
    vm_images.pack(tmp_path)
    with tarfile.open(tmp_path / "lab.box") as box:
        assert sorted(box.getnames()) == ["Vagrantfile", "box.img", "metadata.json"]
        metadata = box.extractfile("metadata.json")
        assert metadata is not None
        assert json.load(metadata) == {"provider": "libvirt", "format": "qcow2", "virtual_size": 10}
    assert not (tmp_path / "disk.qcow2").exists()


def test_images_are_noted_beside_each_other(tmp_path: Path) -> None:
    vm_images.note(tmp_path / "images.json", "box", Path("/a/lab.box"))
    vm_images.note(tmp_path / "images.json", "image", Path("/a/disk.qcow2"))
    assert json.loads((tmp_path / "images.json").read_text()) == {"box": "/a/lab.box", "image": "/a/disk.qcow2"}


def test_programs_come_along_only_over_the_same_tree(tmp_path: Path) -> None:
    tree, other, layer = tmp_path / "tree", tmp_path / "other", tmp_path / "layer"
    for folder in (tree, other, layer):
        folder.mkdir()
    (tmp_path / "artifacts.json").write_text(json.dumps({"base": {"bookworm": f"{layer}:{tree}"}}))
    assert vm_images.with_programs(tree, "bookworm", tmp_path) == f"{layer}:{tree}"
    assert vm_images.with_programs(other, "bookworm", tmp_path) == str(other)
    assert vm_images.with_programs(tree, "trixie", tmp_path) == str(tree)


def test_provider_settings_serve_both_programs() -> None:
    text = vm_terraform.settings(Path("/cache/provider"))
    assert '"registry.terraform.io/dmacvicar/libvirt" = "/cache/provider"' in text
    assert '"registry.opentofu.org/dmacvicar/libvirt" = "/cache/provider"' in text


def test_lock_file_knows_both_registries() -> None:
    text = (ROOT / "terraform/.terraform.lock.hcl").read_text()
    for registry in vm_terraform.REGISTRIES:
        block = text.partition(f'provider "{registry}/dmacvicar/libvirt"')[2].partition("\n}")[0]
        assert 'version     = "0.8.3"' in block
        assert len(re.findall(r'"zh:[0-9a-f]{64}"', block)) == 14


@pytest.mark.parametrize("profile", ["vagrant", "vagrant-small"])
def test_vagrant_inventories_are_labs(profile: str) -> None:
    groups = yaml.safe_load((ROOT / "inventories" / profile / "hosts.yml").read_text())["lab"]["children"]
    assert list(groups) == ["control", "database", "backend", "frontend"]
    indexes = [values["lab_index"] for group in groups.values() for values in group["hosts"].values()]
    assert len(set(indexes)) == len(indexes)
    memory = sum(
        group.get("vars", vm_terraform.GROUPS[name]).get("vm_memory", vm_terraform.GROUPS[name]["memory"])
        * len(group["hosts"])
        for name, group in groups.items()
    )
    assert memory <= (4096 if profile == "vagrant-small" else 8192)


@pytest.mark.parametrize("inventory", ["vagrant", "vagrant-small", "terraform"])
def test_group_vars_stand_once(inventory: str) -> None:
    assert (ROOT / "inventories" / inventory / "group_vars").resolve() == ROOT / "inventories/group_vars"


def test_vagrant_computes_the_network_as_ansible_does() -> None:
    digest = hashlib.sha256(b"vagrant").digest()
    assert lab_network("vagrant") == f"10.{64 + digest[0] % 64}.{digest[1]}.0/24"
    source = (ROOT / "tools/vagrant/lab.rb").read_text()
    assert '"10.#{first + digest[0] % 64}.#{digest[1]}.0/24"' in source
    assert "network_of(@name, 64)" in source


@pytest.mark.skipif(not shutil.which("vagrant"), reason="vagrant is not installed (make vm-prepare)")
def test_vagrantfile_is_valid(tmp_path: Path) -> None:
    name = lab_owner.own_lab(str(ROOT), "vm")
    options = {"LAB_NAME": name, "LAB_PROFILE": "small", "LAB_BOX": "debian/bookworm64", "VAGRANT_HOME": str(tmp_path)}
    done = subprocess.run(
        ["vagrant", "validate"],
        cwd=ROOT,
        env={**os.environ, **options},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    shutil.rmtree(ROOT / ".lab" / name, ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Vagrantfile validated successfully." in done.stdout


TERRAFORMS = lab_terraform.programs(None, ROOT)


@pytest.mark.skipif(not TERRAFORMS, reason="neither terraform nor tofu is there (make vm-prepare)")
@pytest.mark.parametrize("program", TERRAFORMS, ids=lambda path: Path(path).name)
def test_terraform_module(program: str) -> None:
    settings = ROOT / ".lab/terraform.rc"
    if not settings.exists() and not (ROOT / "terraform/.terraform").exists():
        pytest.skip("the provider is not there (make vm-prepare)")
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    if settings.exists():
        environment["TF_CLI_CONFIG_FILE"] = str(settings)
    for arguments in (["fmt", "-check", "-recursive"], ["validate", "-no-color"], ["test", "-no-color"]):
        done = subprocess.run(
            [program, *arguments],
            cwd=ROOT / "terraform",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("mode", "fits"), [(0o600, False), (0o640, False), (0o660, True)])
def test_kvm_is_for_its_group_only_where_that_may_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, fits: bool
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    device.chmod(mode)
    monkeypatch.setattr(vm_libvirt, "KVM_GROUP", device.group())
    assert vm_libvirt.kvm_is_for_its_group(device.stat()) is fits
