"""Virtual machines for the lab: images, libvirt, Terraform, and the end of it all.

python -m tools.vm box|image [--release NAME]
python -m tools.vm prepare [vagrant] [terraform]
python -m tools.vm check vagrant --name NAME --memory MIB --box PATH [--made N]
python -m tools.vm terraform ARGUMENT...
python -m tools.vm clean --name NAME [--empty-pool]
python -m tools.vm stop
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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
    except PrepareError as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vm: interrupted; run it again and it goes on", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="vm", description="Virtual machines for the lab.")
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
    command.add_argument("way", choices=["vagrant", "terraform"])
    command.add_argument("--name", required=True)
    command.add_argument("--memory", type=int, required=True, help="MiB of all machines together")
    command.add_argument("--made", type=int, default=0, help="how many machines are there already")
    command.add_argument("--box", default="public", help="path of the local box, or 'public'")
    command = commands.add_parser("terraform", help="run terraform or tofu on terraform/")
    command.add_argument("arguments", nargs=argparse.REMAINDER)
    command = commands.add_parser("clean", help="remove the domains, networks and pool of a lab")
    command.add_argument("--name", required=True)
    command.add_argument("--empty-pool", action="store_true", help="leave the pool, empty: Terraform looks into it")
    commands.add_parser("stop", help="stop the libvirt that was started by hand")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Carry one command out."""
    if options.command in ("box", "image"):
        say(options.command, str(vm_images.prepare(options.command, options.release, LAB)))
    elif options.command == "prepare":
        prepare(["vagrant", "terraform"] if "both" in options.ways else options.ways, options.name)
    elif options.command == "check":
        problems = check(options, vm_libvirt.answers(), vm_libvirt.memory_available_mib())
        if problems:
            raise PrepareError("nothing was made.\n" + "\n".join(f"  {text}" for text in problems))
        vm_libvirt.make_pool(options.name)
    elif options.command == "terraform":
        program, environment = vm_terraform.prepare(LAB)
        return vm_terraform.call(program, environment, options.arguments)
    elif options.command == "clean":
        if vm_libvirt.answers():
            for text in vm_libvirt.clean(options.name):
                say("clean", f"removed {text}")
        vm_libvirt.remove_folder(options.name)
        if options.empty_pool:
            vm_libvirt.make_pool(options.name)
    elif options.command == "stop":
        vm_libvirt.stop()
    return 0


def prepare(ways: Sequence[str], name: str) -> None:
    """Packages, libvirt, image, key and programs for the named ways."""
    packages.prepare(["default", "libvirt", *(["vagrant"] if "vagrant" in ways else [])])
    vm_libvirt.start()
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
