"""Virtual machines for the lab: images, libvirt, Terraform, and the end of it all.

python -m tools.vm box|image [--release NAME]
python -m tools.vm prepare [vagrant] [terraform]
python -m tools.vm check vagrant --name NAME --memory MIB --box PATH [--made N]
python -m tools.vm owner vagrant|terraform --name NAME [--removing]
python -m tools.vm terraform ARGUMENT...
python -m tools.vm apply --name NAME ARGUMENT...
python -m tools.vm clean --name NAME
python -m tools.vm down --vagrant NAME --terraform NAME ARGUMENT...

ADOPT=1 in the environment makes a lab this clone's that another clone's folder had made.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from plugins.module_utils import lab_owner
from tools import vm_images, vm_libvirt, vm_terraform
from tools.preparing import packages
from tools.preparing.running import PrepareError, say

PROJECT = Path(__file__).resolve().parents[1]
LAB = PROJECT / ".lab"
SPARE_MIB = 512
"""What must be left of this computer's memory for itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    options = parse(arguments)
    try:
        return run(options)
    except (PrepareError, lab_owner.RefusedError) as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vm: interrupted; run it again and it goes on", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="vm", description="Virtual machines for the lab.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for kind, text in (("box", "a Vagrant box"), ("image", "a qcow2 with cloud-init")):
        command = commands.add_parser(kind, help=f"make {text} from Debian packages")
        command.add_argument("--release", default="bookworm", help="Debian release")
    command = commands.add_parser("prepare", help="install and start what virtual machines need")
    command.add_argument(
        "ways",
        nargs="*",
        default="both",
        choices=["vagrant", "terraform", "both"],
        help="for which way (default: both)",
    )
    command.add_argument("--name", default="", help="the lab's name")
    command = commands.add_parser("check", help="say what is missing before anything is made")
    command.add_argument("way", choices=["vagrant"])
    command.add_argument("--name", required=True)
    command.add_argument("--memory", type=int, required=True, help="MiB of all machines together")
    command.add_argument("--made", type=int, default=0, help="how many machines are there already")
    command.add_argument("--box", default="public", help="path of the local box, or 'public'")
    command = commands.add_parser("terraform", help="run terraform or tofu on terraform/")
    command.add_argument("arguments", nargs=argparse.REMAINDER)
    command = commands.add_parser("apply", help="let terraform make the lab, unless that destroys what stands")
    command.add_argument("--name", required=True)
    command = commands.add_parser("owner", help="fail unless the lab is this clone's, or nobody's")
    command.add_argument("way", choices=["vagrant", "terraform"])
    command.add_argument("--name", required=True)
    command.add_argument("--removing", action="store_true", help="to remove it, for which nobody needs its keys")
    command = commands.add_parser("clean", help="remove the domains, networks and pool of a Vagrant lab")
    command.add_argument("--name", required=True)
    command = commands.add_parser("down", help="remove this clone's labs of virtual machines, and stop libvirt")
    command.add_argument("--vagrant", required=True, metavar="NAME")
    command.add_argument("--terraform", required=True, metavar="NAME")
    options, more = parser.parse_known_args(arguments)
    if options.command in ("apply", "down"):
        options.arguments = more  # for terraform
    elif more:
        parser.error(f"unknown: {' '.join(more)}")
    return options


def run(options: argparse.Namespace) -> int:
    """Carry one command out."""
    if options.command in ("box", "image"):
        say(options.command, str(vm_images.prepare(options.command, options.release, LAB)))
    elif options.command == "prepare":
        prepare(["vagrant", "terraform"] if "both" in options.ways else options.ways, options.name)
    elif options.command == "check":
        guard(options.name, options.way)
        problems = check(options, vm_libvirt.answers(), vm_libvirt.memory_available_mib())
        if problems:
            raise PrepareError("nothing was made.\n" + "\n".join(f"  {text}" for text in problems))
        settle(options.name, options.way)
        vm_libvirt.make_pool(options.name)
    elif options.command == "owner":
        guard(options.name, options.way, removing=options.removing)
    elif options.command == "terraform":
        program, environment = vm_terraform.prepare(LAB)
        return vm_terraform.call(program, environment, options.arguments)
    elif options.command == "apply":
        guard(options.name, "terraform")
        settle(options.name, "terraform")
        lab_owner.hold(options.name, str(LAB / options.name))
        program, environment = vm_terraform.prepare(LAB)
        return vm_terraform.apply(program, environment, options.arguments)
    elif options.command == "clean":
        guard(options.name, "vagrant", removing=True)
        clean(options.name)
    elif options.command == "down":
        down(options.vagrant, options.terraform, options.arguments)
    return 0


def guard(name: str, kind: str, *, removing: bool = False) -> bool:
    """Fail, with nothing touched, unless the lab may be this clone's; whether its machines stand."""
    directory = LAB / name
    lab_owner.check_kind(name, str(directory), kind)
    check_notes(name, kind)
    owner = vm_libvirt.owner(name) if vm_libvirt.answers() else None
    if owner is None:
        return False
    clone = lab_owner.this_clone(str(PROJECT), str(directory))
    # Of before machines had an id: Terraform's say nothing, Vagrant's the folder.
    keys = not owner.id and (directory / "ssh/id_ed25519").exists()
    if owner == lab_owner.UNKNOWN:
        keys = vm_terraform.lab_of(vm_terraform.state_file()) == name
    adopt = bool(os.environ.get("ADOPT"))
    lab_owner.check_owner(name, kind, owner, clone, keys=keys, adopt=adopt, removing=removing)
    return True


def check_notes(name: str, kind: str) -> None:
    """Fail where Vagrant or Terraform keeps notes of another lab's machines, which it would take for this one's."""
    other = vm_terraform.lab_of(vm_terraform.state_file()) if kind == "terraform" else vagrant_lab()
    if other and other != name:
        more = {"vagrant": "VAGRANT_DOTFILE_PATH=.vagrant/other", "terraform": "TF_WORKSPACE=other"}[kind]
        raise lab_owner.RefusedError(
            f"{kind.capitalize()} has made the lab '{other}' in this clone, and this is for lab '{name}': set "
            f"LAB_NAME={other}, or give '{name}' notes of its own by {more}."
        )


def dotfiles() -> Path:
    """Where Vagrant notes which machines it has made."""
    return PROJECT / os.environ.get("VAGRANT_DOTFILE_PATH", ".vagrant")


def vagrant_lab() -> str:
    """The lab whose machines Vagrant has noted; empty where it has none, or libvirt does not know them."""
    for note in dotfiles().glob("machines/*/libvirt/id"):
        domain = vm_libvirt.name_of(note.read_text()) if shutil.which("virsh") else ""
        if domain:
            return domain.removeprefix("hl-").removesuffix(f"-{note.parents[1].name}")
    return ""


def settle(name: str, kind: str) -> None:
    """Give the lab its id, the one of its machines where they stand, and let them say whose they are."""
    directory = LAB / name
    owner = vm_libvirt.owner(name) if vm_libvirt.answers() else None
    lab_owner.settle(str(directory), kind, owner.id if owner else "")
    if owner:
        vm_libvirt.mark(name, lab_owner.this_clone(str(PROJECT), str(directory)))


def clean(name: str, *, empty_pool: bool = False) -> None:
    """Remove what libvirt has of the lab; `empty_pool` leaves an empty pool, for Terraform to look into."""
    if vm_libvirt.answers():
        for text in vm_libvirt.clean(name):
            say("clean", f"removed {text}")
    vm_libvirt.remove_folder(name)
    if empty_pool:
        vm_libvirt.make_pool(name)


def down(vagrant: str, terraform: str, arguments: Sequence[str]) -> None:
    """Remove this clone's labs of virtual machines, each lab's machines first and then its keys."""
    mine, refusals = [], []
    for kind, name in (("vagrant", vagrant), ("terraform", terraform)):
        try:
            noted = vm_terraform.lab_of(vm_terraform.state_file()) if kind == "terraform" else vagrant_lab()
            if guard(name, kind, removing=True) or kind in lab_owner.kinds(str(LAB / name)) or noted == name:
                mine.append((kind, name))
        except lab_owner.RefusedError as refusal:
            refusals.append(refusal)
    if refusals and not mine:
        raise refusals[0]
    for kind, name in mine:
        if (LAB / name).is_dir():
            lab_owner.hold(name, str(LAB / name))
        if kind == "terraform":
            destroy(name, arguments)
        elif (dotfiles() / "machines").exists() and shutil.which("vagrant"):
            command = ["vagrant", "destroy", "-f"]
            if subprocess.run(command, cwd=PROJECT, env={**os.environ, "LAB_NAME": name}, check=False).returncode:
                raise PrepareError(f"Vagrant did not remove the lab '{name}': its keys stay. What it says is above.")
        clean(name)
        if kind == "vagrant":
            shutil.rmtree(dotfiles(), ignore_errors=True)
        shutil.rmtree(LAB / name, ignore_errors=True)
        shell = LAB / "env"
        if shell.is_symlink() and not shell.exists():
            shell.unlink()
    vm_libvirt.stop()


def destroy(name: str, arguments: Sequence[str]) -> None:
    """Let Terraform remove what its state knows. What an apply that was cut off has made goes first then."""
    if not vm_terraform.lab_of(vm_terraform.state_file()):
        return
    program, environment = vm_terraform.prepare(LAB)
    command = ["destroy", "-auto-approve", "-input=false", *arguments]
    if vm_terraform.call(program, environment, command):
        clean(name, empty_pool=True)
        if vm_terraform.call(program, environment, command):
            raise PrepareError(f"Terraform did not remove the lab '{name}': its keys stay. What it says is above.")


def prepare(ways: Sequence[str], name: str) -> None:
    """Packages, libvirt, image, key and programs for the named ways."""
    lab = name or ways[0]
    present = lab_owner.kinds(str(LAB / lab))
    lab_owner.check_kind(lab, str(LAB / lab), next((way for way in ways if way in present), ways[0]))
    packages.prepare(["default", "libvirt", *(["vagrant"] if "vagrant" in ways else [])])
    vm_libvirt.start()
    if len(ways) == 1:
        guard(lab, ways[0])
        settle(lab, ways[0])
    if "vagrant" in ways and not os.environ.get("LAB_BOX"):
        vm_images.prepare("box", "bookworm", LAB)
    if "terraform" in ways:
        if not os.environ.get("TF_VAR_image"):  # noqa: SIM112
            vm_images.prepare("image", "bookworm", LAB)
        make_key(LAB / (name or "terraform") / "ssh/id_ed25519")
        vm_terraform.prepare(LAB)


def make_key(path: Path) -> None:
    """The key that logs in to the machines, unless it is there."""
    if not path.exists():
        # One by one: `parents` would leave the upper ones open to everybody.
        for folder in (LAB, path.parents[1], path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hashistack-lab", "-f", str(path)]
        subprocess.run(command, check=True)


def check(options: argparse.Namespace, libvirt: bool, memory_mib: int) -> list[str]:
    """Everything that would keep the machines from being made, each as a sentence with its remedy."""
    problems = []
    if not libvirt:
        problems.append(
            f"libvirt does not answer at {vm_libvirt.URI}: run 'make vm-prepare', which installs and starts it; "
            "your user must be root or in the group libvirt."
        )
    if options.box != "public" and not Path(options.box or "/nonexistent").is_file():
        problems.append("There is no box: run 'make box', or name a public one, such as LAB_BOX=debian/bookworm64.")
    if not options.made and memory_mib < options.memory + SPARE_MIB:
        problems.append(
            f"The machines need {options.memory} MiB of memory and {SPARE_MIB} MiB should be left, "
            f"but {memory_mib} MiB are free: stop something, take LAB_PROFILE=small, or lower vm_memory."
        )
    return problems


if __name__ == "__main__":
    sys.exit(main())
