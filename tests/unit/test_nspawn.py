"""What can be judged of machines and networks without making them."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from pathlib import Path

import pytest

from plugins.filter.lab import lab_network, nameservers, network_address, service_certificates
from plugins.modules.nspawn_machine import Machine, answers_ssh, nspawn_pid, settings
from plugins.modules.nspawn_network import foreign_drop_chains, ruleset


def test_settings_of_a_machine() -> None:
    files = settings(
        {
            "hostname": "backend-1",
            "address": "10.80.1.101/24",
            "gateway": "10.80.1.1",
            "authorized_key": "ssh-ed25519 A",
        }
    )
    assert files["etc/hostname"] == "backend-1\n"
    assert "Address=10.80.1.101/24\nGateway=10.80.1.1\n" in files["etc/systemd/network/10-lab.network"]
    assert files["root/.ssh/authorized_keys"] == "ssh-ed25519 A\n"


def test_no_machine_has_a_name_that_nobody_uses() -> None:
    assert nspawn_pid(f"nobody-{os.getpid()}") is None


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
    names = {"consul": ["client.dc1.consul"], "frontend": ["frontend.service.consul", "10.80.1.21"]}
    assert service_certificates(names, "frontend-1") == [
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


class Module:
    """What a machine needs of an AnsibleModule."""

    def __init__(self, directory: Path) -> None:
        self.params = {"name": "test-x", "directory": str(directory), "hostname": "x", "nameservers": []}

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        return done.returncode, done.stdout, done.stderr

    def fail_json(self, **result: object) -> None:
        raise AssertionError(result)


@pytest.mark.parametrize("left", [None, ""])
def test_a_host_key_that_was_cut_off_is_made_anew(tmp_path: Path, left: str | None) -> None:
    """ssh-keygen was killed between the two files, or before it wrote the second one."""
    folder = tmp_path / "root" / "etc" / "ssh"
    folder.mkdir(parents=True)
    (tmp_path / "root" / "root").mkdir()
    key = folder / "ssh_host_ed25519_key"
    key.write_text("half of a key")
    if left is not None:
        (folder / f"{key.name}.pub").write_text(left)
    machine = Machine(Module(tmp_path))
    machine.prepare({})
    assert machine.host_key().startswith("ssh-ed25519 AAAA")
    before = key.read_bytes()
    machine.prepare({})
    assert key.read_bytes() == before
