"""Terraform or OpenTofu, its provider for libvirt, and where to get both when no registry is in reach."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tools.preparing import cache, programs
from tools.preparing.running import PrepareError, say

PROJECT = Path(__file__).resolve().parents[1]
MODULE = PROJECT / "terraform"
REGISTRIES = ("registry.terraform.io", "registry.opentofu.org")
PROVIDER = "dmacvicar/libvirt"
GROUPS = yaml.safe_load((PROJECT / "inventories/group_vars/lab/services.yml").read_text(encoding="utf-8"))["lab_groups"]


def reachable(registry: str) -> bool:
    """Whether the registry of providers can be connected to."""
    try:
        socket.create_connection((registry, 443), timeout=5).close()
    except OSError:
        return False
    return True


def program(lab: Path) -> str:
    """LAB_TERRAFORM, else terraform or tofu, whichever is there; else a tofu of our own, linked to in `lab`."""
    named = os.environ.get("LAB_TERRAFORM")
    for name in [named] if named else ["terraform", "tofu"]:
        if found := shutil.which(name):
            return found
    if named not in (None, "", "tofu"):
        raise PrepareError(f"LAB_TERRAFORM is '{named}', and there is no such program. Name terraform or tofu.")
    link = lab / "tofu"
    link.unlink(missing_ok=True)
    link.symlink_to(_prepared("tofu") / "tofu")
    return str(link)


def _prepared(name: str) -> Path:
    known = programs.read(PROJECT / "artifacts")[name]
    source = os.environ.get("LAB_PROGRAM_SOURCE") or "auto"
    if known.release is None and source == "release":
        source = "auto"
    return programs.prepare(known, source, cache.folder() / "programs")


def settings(provider: Path) -> str:
    """A settings file of Terraform that takes the provider from a folder here.

    As an override: a provider that was built here has another checksum than the registry's, which the lock file holds,
    and an override is the one way that both programs let past it. It needs no `init`.
    """
    lines = "\n".join(f'    "{registry}/{PROVIDER}" = "{provider}"' for registry in REGISTRIES)
    return f"provider_installation {{\n  dev_overrides {{\n{lines}\n  }}\n  direct {{}}\n}}\n"


def prepare(lab: Path) -> tuple[str, dict[str, str]]:
    """The program, and the environment that it needs, with its provider in place."""
    lab.mkdir(mode=0o700, parents=True, exist_ok=True)
    chosen = program(lab)
    registry = "registry.opentofu.org" if "tofu" in Path(chosen).name else "registry.terraform.io"
    environment = {"CHECKPOINT_DISABLE": "1"}
    # The user's own settings may name a mirror.
    if ("TF_CLI_CONFIG_FILE" in os.environ or reachable(registry)) and initialised(chosen, environment):
        return chosen, environment
    say("terraform", f"{registry} does not give the provider: building it from its pinned source")
    file = lab / "terraform.rc"
    cache.write(file, settings(_prepared("terraform-provider-libvirt")))
    environment["TF_CLI_CONFIG_FILE"] = str(file)
    say("terraform", f"by hand: export TF_CLI_CONFIG_FILE={file}; no 'init' is needed")
    return chosen, environment


def initialised(chosen: str, environment: Mapping[str, str]) -> bool:
    """Whether `init` gets the provider that the lock file names, from the registry or the user's mirror."""
    command = [chosen, f"-chdir={MODULE}", "init", "-input=false", "-lockfile=readonly", "-no-color"]
    done = subprocess.run(
        command, check=False, env={**os.environ, **environment}, capture_output=True, stdin=subprocess.DEVNULL
    )
    return done.returncode == 0


def call(chosen: str, environment: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run the program on the module, on this terminal; its exit status."""
    command = [chosen, f"-chdir={MODULE}", *arguments]
    return subprocess.run(command, check=False, env={**os.environ, **environment}).returncode


def apply(chosen: str, environment: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Plan, refuse a plan that loses what stands, and carry it out; the exit status."""
    with tempfile.TemporaryDirectory(prefix="lab-plan-") as folder:
        plan = str(Path(folder) / "plan")
        environment = {**environment, "TF_IN_AUTOMATION": "1"}
        status = call(chosen, environment, ["plan", "-input=false", f"-out={plan}", *arguments])
        if status:
            return status
        command = [chosen, f"-chdir={MODULE}", "show", "-json", plan]
        shown = subprocess.run(command, check=True, env={**os.environ, **environment}, capture_output=True, text=True)
        if losses := lost(json.loads(shown.stdout)):
            raise PrepareError(
                f"This would destroy {', '.join(losses)}, with all that is on the disks, and so nothing was changed: "
                "give the variables that the lab was made with (PROFILE, TF_ARGS). If you mean it, "
                f"this shows the plan and asks: .venv/bin/python -m tools.vm terraform apply {shlex.join(arguments)}"
            )
        return call(chosen, environment, ["apply", "-input=false", plan])


def lost(plan: Mapping[str, Any]) -> list[str]:
    """What a plan (as `show -json` prints it) destroys that nobody asked to remove.

    A backend or frontend that the variables no longer name may go, and so may an image that no machine stands on.
    """
    found = []
    for resource in plan.get("resource_changes", []):
        actions = resource["change"]["actions"]
        if "delete" not in actions:
            continue
        machine = str(resource.get("index", ""))
        if resource["type"] in ("libvirt_network", "libvirt_pool"):
            found.append(f"the lab's {resource['type'].removeprefix('libvirt_')}")
        elif resource["address"].startswith("libvirt_volume.disk[") and (
            "create" in actions or "machines" in GROUPS.get(machine.rsplit("-", 1)[0], {})
        ):
            found.append(machine)
    return found


def state_file() -> Path:
    """Where the state of the chosen workspace is."""
    try:
        chosen = (MODULE / ".terraform/environment").read_text().strip()
    except OSError:
        chosen = ""
    workspace = os.environ.get("TF_WORKSPACE") or chosen or "default"
    return MODULE / ("" if workspace == "default" else f"terraform.tfstate.d/{workspace}") / "terraform.tfstate"


def lab_of(state: Path) -> str:
    """The name of the lab whose machines a state knows; empty where it knows nothing."""
    try:
        resources = json.loads(state.read_text())["resources"]
    except (OSError, ValueError, KeyError):
        return ""
    for resource in resources:
        if resource["type"] in ("libvirt_network", "libvirt_pool"):
            for instance in resource["instances"]:
                return str(instance["attributes"]["name"]).removeprefix("hl-")
    return ""
