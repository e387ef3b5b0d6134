"""Machines that exist already: what docs/your-machines.md says works, with its commands as they stand there.

Four bare Debian machines in two networks with a route between them. One logs in as a user who needs a password for sudo,
by ssh's own settings, to the second network by a jump host. Nothing of a role is installed on them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.filter.lab import lab_network, network_address
from plugins.module_utils.lab_owner import own_lab
from tests.running import Run, run_command
from tools.lab import ROOT
from tools.mutants import copy_project

pytestmark = pytest.mark.timeout(600)
# Group, name in the inventory, host name, network.
MACHINES = (
    ("control", "north", "vm-1041", "m"),
    ("database", "store", "vm-1042", "n"),
    ("backend", "worker-7", "vm-1043", "n"),
    ("frontend", "www", "vm-1044", "m"),
)


class Mine:
    """Somebody's machines, and his clone of this project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "lab"
        self.name = own_lab(str(ROOT), "own")
        self.addresses: dict[str, str] = {}
        networks = {letter: lab_network(own_lab(str(ROOT), letter)) for letter in "mn"}
        self.networks = [
            {"bridge": f"hl-{self.name}-{letter}"[:15], "gateway": network_address(network, 1), "letter": letter}
            for letter, network in networks.items()
        ]
        self.machines = []
        for number, (_, name, hostname, letter) in enumerate(MACHINES, 11):
            network = next(item for item in self.networks if item["letter"] == letter)
            self.addresses[name] = network_address(networks[letter], number)
            self.machines.append(
                {**network, "name": name, "hostname": hostname, "address": self.addresses[name], "release": "bookworm"}
            )
        self.password = secrets.token_hex(8)

    def boot(self, state: str) -> None:
        """Make the machines as somebody else would have, or remove them."""
        key, config = self.folder / "id_ed25519", self.folder / "ssh_config"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        values = {
            "artifacts": json.loads((ROOT / ".lab" / "artifacts.json").read_text(encoding="utf-8")),
            "key": key.with_suffix(".pub").read_text(encoding="utf-8"),
            "known_hosts": str(self.folder / "known_hosts"),
            "machines": self.machines,
            "networks": self.networks,
            "password": self.password,
            "prefix": self.name,
            "state": state,
        }
        file = self.folder / "machines.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(values), encoding="utf-8")
        words = [ROOT / ".venv/bin/ansible-playbook", "-i", "localhost,", ROOT / "tests/machines/machines.yml"]
        run_command([*map(str, words), "-e", f"@{file}"], ROOT, self.environment(), 200).require()
        common = f"IdentityFile {key}\nUserKnownHostsFile {self.folder / 'known_hosts'}\nUser ann\n"
        behind = " ".join(item["address"] for item in self.machines if item["letter"] == "n")
        config.write_text(f"Host {behind}\nProxyJump {self.addresses['north']}\nHost *\n{common}", encoding="utf-8")
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(self.password + "\n", encoding="utf-8")

    def write_inventory(self, **changes: Any) -> None:
        """Edit hosts.yml as the page says."""
        groups = {
            group: {"hosts": {name: {"ansible_host": self.addresses[name]} | changes.get(name, {})}}
            for group, name, _, _ in MACHINES
        }
        common = {"lab_default_name": self.name, "ansible_user": "ann"}
        common["ansible_ssh_common_args"] = f"-F {self.folder / 'ssh_config'}"
        hosts = self.place / "inventories/mine/hosts.yml"
        hosts.write_text(yaml.safe_dump({"lab": {"vars": common, "children": groups}}), encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """A user's, without colours and without a test's own lab."""
        kept = {name: value for name, value in os.environ.items() if name != "LAB_NAME"}
        return {**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}

    def run(self, command: str, timeout: float = 580) -> Run:
        """Run a command of the shell in the clone; sudo's password comes from a file, since nobody types here."""
        password = f"--become-password-file {self.folder / 'password'}"
        command = command.replace("ARGS=-K", f"ARGS='{password}'").replace(" -K", f" {password}")
        environment = self.environment() | {"ANSIBLE_CONFIG": str(self.place / "ansible.cfg")}
        return run_command(["bash", "-c", command], self.place, environment, timeout)

    def sh(self, name: str, command: str) -> str:
        """What a command of root prints on a machine."""
        done = subprocess.run(
            ["ssh", "-F", self.folder / "ssh_config", self.addresses[name], f"sudo -S -p '' sh -c '{command}'"],
            input=self.password + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout


@pytest.fixture(scope="module")
def mine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mine]:
    """The machines, and a clone in which the inventory has been copied."""
    made = Mine(tmp_path_factory.mktemp("mine"))
    copy_project(made.place)
    made.boot("absent")
    made.boot("started")
    made.run("cp -r inventories/example inventories/mine").require()
    made.write_inventory()
    yield made
    if not request.config.option.keep_lab:
        made.boot("absent")
        shutil.rmtree(made.folder)


def test_from_empty_machines_to_the_page(mine: Mine) -> None:
    up = mine.run("make up INVENTORY=mine ARGS=-K").require()
    assert up.recap["www"]["changed"] > 0
    page = mine.run(f"curl -s http://{mine.addresses['www']}/").require().output
    assert "worker-7" in page


def test_a_second_run_changes_nothing(mine: Mine) -> None:
    again = mine.run("make up INVENTORY=mine ARGS=-K").require()
    assert again.changed == {}, again.output[-6000:]
