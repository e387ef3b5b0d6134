"""Machines that exist already: what docs/your-machines.md says works, with its commands as they stand there.

Four bare machines, Debian 12 and 13, in two networks with a route between them. One logs in by ssh's own settings, to
the second network by a jump host: as root, or as a user with sudo who needs a password or none. Nothing of a role is
installed on them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.module_utils.lab_owner import own_lab
from plugins.module_utils.nspawn import machines
from tests.running import BIN, Run, run_command
from tools.lab import ROOT
from tools.mutants import copy_project

PAGE = (ROOT / "docs/your-machines.md").read_text(encoding="utf-8")
COPY, UP, STATUS, BY_JUMP, OFF_ONE, OFF_ALL, ALL_GONE = re.findall(
    r"^```sh\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL
)
# What a system writes by itself: logs, apt's and dpkg's lists, caches, backups of /etc/passwd, and Python's own.
OF_ITSELF = (
    r"/\(proc\|sys\|dev\|run\|tmp\|home\|var/log\|var/tmp\|var/cache\|var/lib/\(apt\|dpkg\|ucf\|systemd/timers\)\)/.*"
    r"\|.*\.pyc\|/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-\|/etc/\.pwd\.lock\|.*/ld\.so\.cache"
)
pytestmark = pytest.mark.timeout(600)
# Group, name in the inventory, host name, network, release, who logs in: root, or ann, whom sudo asks for a password.
MACHINES = (
    ("control", "north", "vm-1041", "m", "bookworm", "password"),
    ("database", "store", "vm-1042", "n", "trixie", "root"),
    ("backend", "worker-7", "vm-1043", "n", "bookworm", "nopasswd"),
    ("frontend", "www", "vm-1044", "m", "trixie", "password"),
)
# What a machine's line says beside its address; all others log in as the inventory's user.
LOGINS: dict[str, dict[str, str]] = {"root": {"ansible_user": "root"}, "password": {}, "nopasswd": {}}


class Mine:
    """Somebody's machines, and his clone of this project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "lab"
        self.name = own_lab(str(ROOT), "own")
        self.addresses: dict[str, str] = {}
        self.before: dict[str, set[str]] = {}
        # Beside the networks of all labs, and this clone's own.
        digest = hashlib.sha256(str(ROOT).encode()).digest()
        networks = {
            letter: f"10.{128 + digest[0] % 64}.{digest[1] // 2 * 2 + part}" for part, letter in enumerate("mn")
        }
        self.networks = [
            {"bridge": f"hl-{self.name}-{letter}"[:15], "gateway": f"{network}.1", "letter": letter}
            for letter, network in networks.items()
        ]
        self.machines = []
        for number, (_, name, hostname, letter, release, login) in enumerate(MACHINES, 11):
            network = next(item for item in self.networks if item["letter"] == letter)
            self.addresses[name] = f"{networks[letter]}.{number}"
            words = {"name": name, "hostname": hostname, "release": release, "login": login}
            self.machines.append({**network, **words, "address": self.addresses[name]})
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
        root = " ".join(item["address"] for item in self.machines if item["login"] == "root")
        config.write_text(
            f"Host {behind}\nProxyJump {self.addresses['north']}\nHost {root}\nUser root\nHost *\n{common}",
            encoding="utf-8",
        )
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(self.password + "\n", encoding="utf-8")

    def write_inventory(self, **changes: Any) -> None:
        """Edit hosts.yml as the page says."""
        groups = {
            group: {"hosts": {name: {"ansible_host": self.addresses[name]} | LOGINS[login] | changes.get(name, {})}}
            for group, name, _, _, _, login in MACHINES
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
        root = f"sudo -S -p '' sh -c {shlex.quote(command)}"
        done = subprocess.run(
            ["ssh", "-F", self.folder / "ssh_config", self.addresses[name], root],
            input=self.password + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def inside(self, name: str, *command: str) -> str:
        """Run a command in a machine's network, as its provider's firewall would."""
        root = f"/var/lib/hashistack-lab-tests/{self.name}/{name}/root"
        outer = next(machine.pid for machine in machines() if machine.directory == root)
        inner = Path(f"/proc/{outer}/task/{outer}/children").read_text(encoding="ascii").split()[0]
        words = [*([] if os.geteuid() == 0 else ["sudo", "-n"]), "nsenter", "-t", inner, "-n", *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout

    @contextlib.contextmanager
    def only_ssh_to(self, name: str) -> Iterator[None]:
        """Refuse what this computer sends to the machines, but for ssh to one."""
        networks = ", ".join(f"{item['gateway']}/24" for item in self.networks)
        rules = f"ip daddr != {{ {networks} }} accept; ip daddr {self.addresses[name]} tcp dport 22 accept; "
        chain = (
            f"chain output {{ type filter hook output priority 0; {rules} meta l4proto tcp reject with tcp reset; }}"
        )
        nft = [*([] if os.geteuid() == 0 else ["sudo", "-n"]), "nft"]
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        subprocess.run([*nft, f"table inet hl-{self.name} {{ {chain}; }}"], env=environment, check=True)
        try:
            yield
        finally:
            subprocess.run([*nft, "delete", "table", "inet", f"hl-{self.name}"], env=environment, check=True)

    def files(self, name: str) -> set[str]:
        """What is on a machine, but for what any machine writes while it runs."""
        found = set(self.sh(name, f"find / -xdev ! -type d ! -regex '{OF_ITSELF}'").splitlines())
        packages = self.sh(name, "dpkg-query --show --showformat='package ${Package} ${db:Status-Status}\\n'")
        return found | set(packages.splitlines())


@pytest.fixture(scope="module")
def mine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mine]:
    """The machines, and a clone in which the inventory has been copied."""
    made = Mine(tmp_path_factory.mktemp("mine"))
    subprocess.run([BIN / "python", "-m", "tools.prepare", "base", "--release", "trixie"], cwd=ROOT, check=True)
    copy_project(made.place)
    made.boot("absent")
    made.boot("started")
    made.run(COPY).require()
    made.write_inventory()
    made.before = {name: made.files(name) for name in made.addresses}
    yield made
    if not request.config.option.keep_lab:
        made.boot("absent")
        shutil.rmtree(made.folder)


def test_all_that_is_wrong_is_said_before_anything_is_changed(mine: Mine) -> None:
    mine.write_inventory(www={"lab_address": "192.0.2.44"})
    mine.sh("north", "mkdir -p /opt/vault/data; systemd-run --unit=squatter python3 -m http.server 8500")
    firewall = "table inet wall { chain input { type filter hook input priority 0; tcp dport 5432 reject; }; }"
    mine.inside("store", "nft", firewall)
    said = mine.run(UP)
    mine.inside("store", "nft", "delete table inet wall")
    mine.sh("north", "systemctl stop squatter; rm -r /opt/vault")
    mine.write_inventory()
    assert said.code != 0
    problems = re.findall(r"^ +\d\. (.*)$", said.output.partition("4 problems found, nothing was changed:")[2], re.M)[
        :4
    ]
    assert [re.sub(r"process \d+|10\.[\d.]+", "N", problem) for problem in problems] == [
        "north: vault is there already (/opt/vault/data), and is not this lab's: take another machine, or remove it "
        "and what it holds yourself.",
        "north: port 8500 is taken by python3 (N): stop that there, or take another machine.",
        "www: 192.0.2.44 is none of its own addresses (N): write the one at which the other machines reach it, as "
        "lab_address on its line.",
        "worker-7 does not reach store (N) at tcp port 5432 of postgresql (connection refused): let it through the "
        "firewalls between them, or see the route.",
    ], said.output[-4000:]
    assert {name: mine.files(name) for name in mine.addresses} == mine.before


def test_from_empty_machines_to_the_page(mine: Mine) -> None:
    up = mine.run(UP).require()
    assert up.recap["www"]["changed"] > 0
    page = mine.run(f"curl -s http://{mine.addresses['www']}/").require().output
    assert "worker-7" in page
    mine.run(STATUS).require()


def test_a_second_run_changes_nothing_and_goes_by_a_jump_host_alone(mine: Mine) -> None:
    port, control = 20000 + os.getpid() % 10000, mine.folder / "jump"
    ssh = f"ssh -F {mine.folder / 'ssh_config'} -S {control}"
    tunnel = f"{ssh} -M -f -N -D {port} {mine.addresses['north']} > /dev/null 2>&1"
    command = BY_JUMP.replace("ssh -f -N -D 1080 ann@jump.example.org", tunnel).replace("1080", str(port))
    with mine.only_ssh_to("north"):
        assert mine.run(STATUS).code != 0
        try:
            again = mine.run(f"set -e\n{command}").require()
            assert again.changed == {}, again.output[-6000:]
            mine.run(f"proxychains4 -q -f .lab/jump.conf {STATUS}").require()
            environment = f". .lab/{mine.name}/env && export HTTPS_PROXY=socks5://127.0.0.1:{port}"
            said = mine.run(f"{environment} && vault status && consul members").require().output
            assert "worker-7" in said
        finally:
            mine.run(f"{ssh} -O exit {mine.addresses['north']}")


def test_a_second_lab_does_not_take_a_machine_of_the_first(mine: Mine) -> None:
    said = mine.run(f"LAB_NAME={own_lab(str(ROOT), 'two')} {UP}")
    assert said.code != 0
    assert f"www: it belongs to lab '{mine.name}' of the clone in {mine.place}: take another machine" in said.output
    shutil.rmtree(mine.place / ".lab" / own_lab(str(ROOT), "two"))


def test_it_goes_off_one_machine_and_its_data_stays(mine: Mine) -> None:
    note = "curl -sf -H 'Content-Type: application/json' -d '{\"text\": \"kept\"}'"
    mine.run(f"{note} http://{mine.addresses['www']}/api/notes").require()
    off = mine.run(OFF_ONE.replace("backend-a", "store")).require()
    assert set(off.changed) == {"store"}
    left = mine.files("store") - mine.before["store"]
    # PostgreSQL's data with its packages' settings, Consul's, and the note of whose the machine is.
    elsewhere = re.compile(r".*postgresql|/var/lib/consul/|/etc/hashistack-lab\.json")
    strangers = [path for path in sorted(left) if not elsewhere.match(path)]
    assert strangers == [], strangers
    assert any(path.startswith("/var/lib/postgresql/17/main/base/") for path in left)
    mine.run(UP).require()
    assert "kept" in mine.run(f"curl -s http://{mine.addresses['www']}/").require().output


def test_where_its_clone_is_gone_another_takes_it_off(mine: Mine) -> None:
    other = own_lab(str(ROOT), "two")
    command = f"LAB_NAME={other} {OFF_ONE.replace('backend-a', 'worker-7')}"
    said = mine.run(command)
    assert said.code != 0
    assert f"belongs to lab '{mine.name}' of the clone in {mine.place}: uninstall it there, or, where" in said.output
    mine.sh("worker-7", "systemctl is-active backend")
    off = mine.run(f"{command} -e lab_adopt=true").require()
    assert set(off.changed) == {"worker-7"}
    assert "backend" not in mine.sh("worker-7", "systemctl list-units --no-legend --plain 'backend*'")
    assert not (mine.place / ".lab" / other).exists()


def test_all_of_it_goes_and_leaves_the_machines_as_they_were(mine: Mine) -> None:
    mine.sh("north", "systemctl start vault-logrotate.service")  # As its timer does within a day.
    mine.run(ALL_GONE).require()
    for name, before in mine.before.items():
        differing = sorted(mine.files(name) ^ before)
        assert differing == [], (name, differing)
    assert not (mine.place / ".lab" / mine.name).exists()
    mine.sh("www", "getent passwd nginx frontend && exit 1; exit 0")
    again = mine.run(OFF_ALL).require()
    assert again.changed == {}
