"""What can be judged of machines and networks without making them."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.filter.lab import lab_network, nameservers, network_address, service_certificates
from plugins.module_utils import beneath
from plugins.modules.nspawn_machine import HOST_KEY, Machine, answers_ssh, end, nspawn_pid, of_the_same_name, settings
from plugins.modules.nspawn_network import foreign_drop_chains, ruleset

OPTIONS = {
    "name": "lab-backend-1",
    "hostname": "backend-1",
    "address": "10.80.1.101/24",
    "gateway": "10.80.1.1",
    "nameservers": ["192.0.2.53"],
    "authorized_key": "ssh-ed25519 A",
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that has only some folders yet; the commands that it runs are real."""

    def run_command(command: list[str]) -> tuple[int, str, str]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    for folder in ("root", "etc/ssh", "etc/systemd/network"):
        (tmp_path / "machine" / "root" / folder).mkdir(parents=True)
    params = {**OPTIONS, "directory": str(tmp_path / "machine")}
    return Machine(SimpleNamespace(params=params, run_command=run_command, fail_json=pytest.fail))


def test_settings_of_a_machine() -> None:
    files = settings(OPTIONS)
    assert files["etc/hostname"] == "backend-1\n"
    assert "Address=10.80.1.101/24\nGateway=10.80.1.1\n" in files["etc/systemd/network/10-lab.network"]
    assert files["root/.ssh/authorized_keys"] == "ssh-ed25519 A\n"


def test_what_a_new_machine_gets(machine: Machine) -> None:
    assert machine.host_key() == ""
    machine.prepare(machine.differing())
    assert machine.differing() == {}
    assert machine.host_key().startswith("ssh-ed25519 ")
    root = Path(machine.root)
    modes = {"root": 0o700, "root/.ssh": 0o700, "etc/systemd": 0o755, HOST_KEY: 0o600, "etc/hostname": 0o644}
    assert {path: (root / path).stat().st_mode & 0o777 for path in modes} == modes
    assert (root / "etc/resolv.conf").read_text() == "nameserver 192.0.2.53\n"
    key = machine.host_key()
    machine.prepare({})
    assert machine.host_key() == key


@pytest.mark.parametrize(("half", "left"), [(f"{HOST_KEY}.pub", None), (f"{HOST_KEY}.pub", ""), (HOST_KEY, None)])
def test_a_host_key_that_was_cut_off_is_made_anew(machine: Machine, half: str, left: str | None) -> None:
    """ssh-keygen was killed between the two files, or before it wrote the second one; or one was lost."""
    machine.prepare(machine.differing())
    file = Path(machine.root) / half
    file.unlink()
    if left is not None:
        file.write_text(left)
    assert machine.host_key() == ""
    machine.prepare({})
    derived = machine.run("ssh-keygen", "-y", "-f", f"{machine.root}/{HOST_KEY}")
    assert machine.host_key() == " ".join(derived.split()[:2])


@pytest.mark.parametrize("link", ["root/.ssh", "root", "etc/ssh", "etc/systemd/network", "etc/systemd", "etc"])
def test_a_folder_that_is_a_link_leads_nowhere(machine: Machine, tmp_path: Path, link: str) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "ssh").mkdir(parents=True)
    theirs.chmod(0o755)
    for name in ("authorized_keys", "ssh_host_ed25519_key.pub", "ssh/ssh_host_ed25519_key.pub", "hostname"):
        (theirs / name).write_text("ssh-ed25519 theirs\n")
    before = {path: path.read_text() for path in theirs.rglob("*") if path.is_file()}
    if (Path(machine.root) / link).exists():
        (Path(machine.root) / link).rename(tmp_path / "away")
    (Path(machine.root) / link).symlink_to(theirs)

    machine.prepare(machine.differing())

    assert "theirs" not in machine.host_key()
    assert {path: path.read_text() for path in theirs.rglob("*") if path.is_file()} == before
    assert theirs.stat().st_mode & 0o777 == 0o755
    assert machine.differing() == {}
    assert (Path(machine.root) / link).is_dir()
    assert not (Path(machine.root) / link).is_symlink()


def test_a_file_that_is_a_link_or_a_pipe_is_replaced(machine: Machine, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("backend-1\n")
    etc = Path(machine.root) / "etc"
    (etc / "hostname").symlink_to(theirs)
    (etc / ".hosts.new").symlink_to(theirs)
    os.mkfifo(etc / "hosts")
    assert beneath.read(machine.root, "etc/hostname") is None
    machine.prepare(machine.differing())
    assert theirs.read_text() == "backend-1\n"
    assert machine.differing() == {}


def test_no_machine_runs_where_nobody_has_made_one() -> None:
    assert nspawn_pid("/nowhere/root") is None
    assert of_the_same_name(f"nobody-{os.getpid()}", "/nowhere/root") == ""


def test_a_process_that_has_ended_meanwhile_is_no_error() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    end(process.pid, signal.SIGKILL)


def test_a_port_without_ssh_does_not_answer() -> None:
    assert not answers_ssh("127.255.255.254")


def test_a_firewall_that_drops_forwarded_packets_is_found_once() -> None:
    docker = {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}}
    open_chain = {"chain": {**docker["chain"], "name": "other", "policy": "accept"}}
    ours = {"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "comment": "hl-lab", "handle": 7}}
    assert foreign_drop_chains([docker, open_chain], "hl-lab") == ([("ip", "filter", "FORWARD")], [])
    assert foreign_drop_chains([docker, ours], "hl-lab") == ([], [ours["rule"]])
    assert foreign_drop_chains([docker, ours], "hl-two")[0] == [("ip", "filter", "FORWARD")]


def test_the_network_is_closed_from_outside() -> None:
    rules = ruleset("hl-lab", ipaddress.IPv4Network("10.80.1.0/24"))
    assert 'oifname "hl-lab" drop' in rules
    assert "ip saddr 10.80.1.0/24" in rules


def test_names_give_different_networks_in_a_private_range() -> None:
    networks = {lab_network(name) for name in ("lab", "test", "vagrant", "terraform", "m-consul")}
    assert len(networks) == 5
    assert all(ipaddress.IPv4Network(network).subnet_of(ipaddress.IPv4Network("10.64.0.0/10")) for network in networks)
    assert network_address("10.80.1.0/24", 11) == "10.80.1.11"
    with pytest.raises(IndexError):
        network_address("10.80.1.0/24", 300)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 127.0.0.53\nnameserver 192.0.2.53\n", ["192.0.2.53"]),
        ("# nameserver 192.0.2.1\nnameserver fe80::1%eth0\n", []),
        ("", []),
    ],
)
def test_name_servers_that_another_machine_can_ask(text: str, expected: list[str]) -> None:
    assert nameservers(text) == expected


def test_a_certificate_for_each_service() -> None:
    services: dict[str, dict[str, Any]] = {
        "agent": {"group": "lab", "certificate": "consul", "names": ["client.dc1.consul"]},
        "consul": {"group": "control", "names": ["server.dc1.consul"]},
        "dnsmasq": {"group": "lab"},
        "frontend": {"group": "frontend", "names": ["frontend.service.consul", "10.80.1.21"]},
    }
    groups = {"lab": ["control-1", "frontend-1"], "control": ["control-1"], "frontend": ["frontend-1"]}
    (server,) = service_certificates(services, "control-1", groups)
    assert (server["name"], server["dns_names"]) == ("control-1/consul", ["server.dc1.consul"])
    assert service_certificates(services, "frontend-1", groups) == [
        {
            "name": "frontend-1/consul",
            "common_name": "client.dc1.consul",
            "dns_names": ["client.dc1.consul"],
            "ip_addresses": [],
        },
        {
            "name": "frontend-1/frontend",
            "common_name": "frontend.service.consul",
            "dns_names": ["frontend.service.consul"],
            "ip_addresses": ["10.80.1.21"],
        },
    ]
