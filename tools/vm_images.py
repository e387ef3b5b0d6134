"""Disk images of virtual machines: a Vagrant box, and a qcow2 with cloud-init, both from the lab's base tree."""

import json
import tarfile
from pathlib import Path
from typing import Any

from tools.preparing import base_tree, cache, layers, packages
from tools.preparing.cache import artifact, digest
from tools.preparing.programs import architecture
from tools.preparing.running import as_root, run

ARTIFACTS = Path(__file__).resolve().parents[1] / "artifacts"
RECIPES = ARTIFACTS / "images"
DISK_MIB = 10240
"""Size of the disk; the file holds only what is used of it."""
BOX_VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.provider(:libvirt) { |libvirt| libvirt.disk_bus = "virtio" }
end
"""


def prepare(kind: str, release: str, lab: Path) -> Path:
    """The file of the image `kind` ('box' or 'image'), made unless it is cached; noted in LAB/images.json."""
    packages.prepare(["default", "images"])
    tree = with_programs(base_tree.prepare(release, cache.folder() / "base"), release, lab)
    recipe = [layers.OVER_TREE, *sorted(path for path in RECIPES.iterdir() if path.is_file())]
    name = f"{kind}-{release}-{architecture()}-{digest(tree, str(DISK_MIB), BOX_VAGRANTFILE, *recipe)}"

    def make(work: Path) -> None:
        script = str(RECIPES / "machine-image.sh")
        run(name, as_root(["sh", script, kind, tree, str(work), str(DISK_MIB)]))
        if kind == "box":
            pack(work)

    place = artifact(cache.folder() / "images" / name, make, root=True)
    file = place / ("lab.box" if kind == "box" else "disk.qcow2")
    note(lab / "images.json", kind, file)
    return file


def with_programs(tree: Path, release: str, lab: Path) -> str:
    """The tree with the layer of programs over it that the containers have too, where 'make prepare' has made one."""
    try:
        layers = str(json.loads((lab / "artifacts.json").read_text())["base"][release])
    except (OSError, ValueError, KeyError, TypeError):
        return str(tree)
    there = all(Path(layer).is_dir() for layer in layers.split(":"))
    return layers if there and layers.split(":")[-1] == str(tree) else str(tree)


def metadata() -> dict[str, Any]:
    """What a box for vagrant-libvirt says of itself; the size is in GiB."""
    return {"provider": "libvirt", "format": "qcow2", "virtual_size": DISK_MIB // 1024}


def pack(work: Path) -> None:
    """Make WORK/lab.box out of WORK/disk.qcow2: a plain tar, since packing it would cost more than it saves."""
    (work / "metadata.json").write_text(json.dumps(metadata()) + "\n")
    (work / "Vagrantfile").write_text(BOX_VAGRANTFILE)
    with tarfile.open(work / "lab.box", "w") as box:
        for source, member in (("metadata.json", None), ("Vagrantfile", None), ("disk.qcow2", "box.img")):
            box.add(work / source, arcname=member or source)
    (work / "disk.qcow2").unlink()


def note(path: Path, kind: str, file: Path) -> None:
    """Write where the image is, for the Vagrantfile and for Terraform."""
    try:
        images = json.loads(path.read_text())
    except (OSError, ValueError):
        images = {}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache.write(path, json.dumps({**images, kind: str(file)}, indent=2, sort_keys=True) + "\n")
