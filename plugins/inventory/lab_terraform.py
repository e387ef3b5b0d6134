"""Inventory of the machines that Terraform or OpenTofu made, read from its output ``lab``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lab_terraform
short_description: Machines of the lab that Terraform or OpenTofu made
description:
  - Reads the output C(lab) of the module in C(terraform/) by C(terraform output -json) or C(tofu output -json),
    whichever program can read its state. Makes nothing and asks no machine.
author: HashiStack Lab (@hashistack-lab)
options:
  plugin:
    description: The name of this plugin.
    required: true
    choices: [hashistack.lab.lab_terraform]
  module:
    description: Folder of the Terraform module, relative to the inventory's file (and so no C(path)).
    type: str
    default: ../../terraform
  program:
    description: Program to ask; by default terraform and tofu, in the path or in C(.lab) by C(make vm-prepare).
    type: str
    env:
      - name: LAB_TERRAFORM
"""

EXAMPLES = r"""
plugin: hashistack.lab.lab_terraform
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

SECONDS = 60
"""How long the program may take."""
Execute = Callable[[Sequence[str]], tuple[int, str, str]]
"""Runs a command; its exit status, output and errors."""


class OutputError(Exception):
    """Why there is no inventory: a sentence with the remedy."""


def programs(named: str | None, project: Path) -> list[str]:
    """The programs that may be able to read the state, in the order in which to ask them."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(project / ".lab")])
    names = [named] if named else ["terraform", "tofu"]
    return [found for name in names if (found := shutil.which(name, path=path))]


def execute(command: Sequence[str], settings: Path | None = None) -> tuple[int, str, str]:
    """Run a command without a terminal, colours and version checks over the network.

    ``settings`` name the provider that ``make vm-prepare`` has built; without it no output is read where there is one.
    """
    environment = {**os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    if settings and settings.exists():
        environment["TF_CLI_CONFIG_FILE"] = str(settings)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, "", str(error)
    return done.returncode, done.stdout, done.stderr


def read(module: Path, candidates: Sequence[str], run: Execute = execute) -> dict[str, Any]:
    """The module's output ``lab``, from the first program that can read its state.

    A state that a newer program wrote is refused by an older one, so that both are asked.
    """
    if not candidates:
        raise OutputError("Neither terraform nor tofu is there: run 'make vm-prepare', or name one in LAB_TERRAFORM.")
    errors = []
    for program in candidates:
        status, text, error = run([program, f"-chdir={module}", "output", "-json", "-no-color"])
        if status == 0:
            return parse(text)
        errors.append(f"{Path(program).name}: {' '.join(error.split())[:300]}")
    raise OutputError(f"The outputs of {module} cannot be read ({'; '.join(errors)}): run 'make terraform-up' first.")


def parse(text: str) -> dict[str, Any]:
    """The value of the output ``lab`` in what ``output -json`` prints."""
    try:
        outputs = json.loads(text)
    except ValueError as error:
        raise OutputError(f"'output -json' printed no JSON: {error}.") from error
    if "lab" not in outputs:
        raise OutputError(
            "Terraform has made no machines: run 'make terraform-up', or 'terraform apply' in terraform/."
        )
    lab: dict[str, Any] = outputs["lab"]["value"]
    return lab


def check_name(lab: dict[str, Any], wanted: str) -> None:
    """Fail where LAB_NAME (``wanted``) is another lab than the one in Terraform's state."""
    if wanted and wanted != lab["name"]:
        raise OutputError(
            f"LAB_NAME is '{wanted}', but Terraform made the machines of the lab '{lab['name']}': unset LAB_NAME, "
            "or choose the workspace of the other lab by TF_WORKSPACE."
        )


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]  # ansible has no types
    """Gives Ansible the groups, the machines, and how to reach them."""

    NAME = "hashistack.lab.lab_terraform"

    def verify_file(self, path: str) -> bool:
        """Read YAML files only; ``plugin`` inside says whether it is ours."""
        return super().verify_file(path) and path.endswith((".yml", ".yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        module = (Path(path).parent / self.get_option("module")).resolve()
        try:
            run = partial(execute, settings=module.parent / ".lab/terraform.rc")
            lab = read(module, programs(self.get_option("program"), module.parent), run)
            check_name(lab, os.environ.get("LAB_NAME", ""))
        except OutputError as error:
            raise AnsibleParserError(str(error)) from error
        inventory.add_group("lab")
        for name, machine in lab["machines"].items():
            inventory.add_child("lab", inventory.add_group(machine["group"]))
            inventory.add_host(name, group=machine["group"])
            inventory.set_variable(name, "lab_index", machine["index"])
            # Of the host, since group_vars, which derives it from the lab's name, wins over a group's variable here.
            inventory.set_variable(name, "lab_network", str(lab["network"]))
        for name, value in {
            "lab_default_name": lab["name"],
            "ansible_user": lab["user"],
            "ansible_ssh_private_key_file": lab["key"],
        }.items():
            inventory.set_variable("lab", name, str(value))
