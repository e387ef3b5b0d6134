#!/usr/bin/python
"""A bridge with NAT for machines on this computer, in an nftables table of its own."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_network
short_description: A bridge with NAT for local machines
description:
  - Makes a Linux bridge with an address, and an nftables table of the same name that lets its machines reach the
    networks that this computer reaches. Nothing from outside reaches the machines through it.
  - Where another firewall drops forwarded packets (as Docker's does), two accepting rules for the bridge are put
    before its chain's rules, and taken out again with the network.
  - Switches IPv4 forwarding on and raises the computer's inotify limits to what dozens of machines need. Both stay so
    until the computer restarts, since others (Docker, libvirt) may rely on them from then on without saying so.
  - No module of ansible.builtin or community.general makes bridges without NetworkManager, or nftables rules.
options:
  bridge:
    description: Name of the bridge and of the nftables table, 15 characters at most.
    type: str
    required: true
  address:
    description: The bridge's address with the prefix length, such as C(10.80.1.1/24). Needed to make it.
    type: str
  state:
    description: Whether the network exists.
    type: str
    choices: [present, absent]
    default: present
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Connect the machines
  hashistack.lab.nspawn_network:
    bridge: hl-lab
    address: 10.80.1.1/24
"""

RETURN = r"""
done:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

import ipaddress
import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# Routes the machines' packets. Never switched off again: nobody can tell whether Docker or libvirt, which switch it on
# as well when they start, need it by then.
FORWARD_SWITCH = "/proc/sys/net/ipv4/ip_forward"
# What the machines share of this computer's kernel. systemd takes some twenty inotify instances a machine: at the
# default of 128 the eighth would not boot. Each machine keeps the hardware address of each other one: at the default of
# 1024 such entries, more than thirty lose each other. Only ever raised, and left so until the next restart.
LIMITS = {
    "/proc/sys/fs/inotify/max_user_instances": 8192,
    "/proc/sys/fs/inotify/max_user_watches": 524288,
    "/proc/sys/net/ipv4/neigh/default/gc_thresh2": 8192,
    "/proc/sys/net/ipv4/neigh/default/gc_thresh3": 16384,
}


def ruleset(bridge: str, network: ipaddress.IPv4Network) -> str:
    """The nftables table of a network: NAT outwards, replies inwards, nothing else inwards."""
    return f"""
table ip {bridge} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network} oifname != "{bridge}" masquerade comment "{network}"
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" accept
    oifname "{bridge}" ct state established,related accept
    oifname "{bridge}" drop
  }}
}}
"""


def foreign_drop_chains(rules: list[dict[str, Any]], bridge: str) -> tuple[list[tuple[str, str, str]], list[Any]]:
    """Find other firewalls' chains that drop forwarded packets, and our rules in them.

    Args:
        rules: the ``nftables`` list of ``nft --json list ruleset``.
        bridge: our bridge, which is also our table's name and our rules' comment.

    Returns:
        The (family, table, chain) that have no rule of ours yet, and our rules as nft's objects.

    """
    chains = [
        (chain["family"], chain["table"], chain["name"])
        for chain in (entry["chain"] for entry in rules if "chain" in entry)
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["family"] in ("ip", "inet")
    ]
    ours = [
        rule
        for rule in (entry["rule"] for entry in rules if "rule" in entry)
        if rule.get("comment") == bridge and rule["table"] != bridge
    ]
    having = {(rule["family"], rule["table"], rule["chain"]) for rule in ours}
    return [chain for chain in chains if chain not in having], ours


class Network:
    """The network's parts on this computer; every change is listed in ``done`` and left out in check mode."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.bridge: str = module.params["bridge"]
        self.done: list[str] = []

    def read(self, *command: str) -> Any:
        """The JSON that a command prints; None where it fails."""
        code, out, _err = self.module.run_command(list(command))
        return json.loads(out) if code == 0 and out.strip() else None

    def run(self, what: str, *command: str, data: str | None = None) -> None:
        """Run a command that changes something."""
        self.done.append(what)
        if self.module.check_mode:
            return
        code, out, err = self.module.run_command(list(command), data=data)
        if code != 0:
            self.module.fail_json(msg=f"'{' '.join(command)}' failed: {err.strip() or out.strip()}")

    def write(self, what: str, path: str, content: str) -> None:
        """Write a small file."""
        self.done.append(what)
        if not self.module.check_mode:
            with open(path, "w", encoding="ascii") as stream:
                stream.write(content)

    def links(self) -> list[dict[str, Any]]:
        """The computer's links with their addresses."""
        return self.read("ip", "-json", "address", "show") or []

    def rules(self) -> list[dict[str, Any]]:
        """The computer's nftables rules."""
        listing = self.read("nft", "--json", "list", "ruleset") or {}
        entries: list[dict[str, Any]] = listing.get("nftables", [])
        return entries

    def present(self, address: ipaddress.IPv4Interface) -> None:
        """Make what is missing."""
        links = {link["ifname"]: link for link in self.links()}
        for name, other_link in links.items():
            for info in other_link.get("addr_info", []):
                other = ipaddress.ip_interface(f"{info['local']}/{info['prefixlen']}").network
                if name != self.bridge and other.version == 4 and other.overlaps(address.network):
                    self.module.fail_json(
                        msg=f"The network {address.network} is already used by {name} ({info['local']}): "
                        "set lab_network to a free one."
                    )
        link = links.get(self.bridge)
        if link is None:
            self.run("made the bridge", "ip", "link", "add", self.bridge, "type", "bridge")
        present = {f"{info['local']}/{info['prefixlen']}" for info in (link or {}).get("addr_info", [])}
        if str(address) not in present:
            self.run("gave the bridge its address", "ip", "address", "replace", str(address), "dev", self.bridge)
        if link is None or "UP" not in link["flags"]:
            self.run("started the bridge", "ip", "link", "set", self.bridge, "up")

        rules = self.rules()
        comments = {
            entry["rule"].get("comment") for entry in rules if entry.get("rule", {}).get("table") == self.bridge
        }
        if str(address.network) not in comments:
            flush = f"table ip {self.bridge}\ndelete table ip {self.bridge}\n"
            self.run("made the NAT table", "nft", "-f", "-", data=flush + ruleset(self.bridge, address.network))
        for family, table, chain in foreign_drop_chains(rules, self.bridge)[0]:
            for direction in ("iifname", "oifname"):
                self.run(
                    f"let the bridge through {table} {chain}",
                    *("nft", "insert", "rule", family, table, chain),
                    *(direction, self.bridge, "counter", "accept", "comment", f'"{self.bridge}"'),
                )
        for path, least in LIMITS.items():
            if not os.path.exists(path):  # Some are the first network namespace's alone.
                continue
            with open(path, encoding="ascii") as stream:
                present_limit = int(stream.read())
            if present_limit < least:
                self.write(f"raised {os.path.basename(path)} to {least}", path, f"{least}\n")
        with open(FORWARD_SWITCH, encoding="ascii") as stream:
            forwarding = stream.read().strip()
        if forwarding == "0":
            self.write("switched forwarding on", FORWARD_SWITCH, "1\n")

    def absent(self) -> None:
        """Take away what is there."""
        rules = self.rules()
        for rule in foreign_drop_chains(rules, self.bridge)[1]:
            self.run(
                f"took the bridge out of {rule['table']} {rule['chain']}",
                *("nft", "delete", "rule", rule["family"], rule["table"], rule["chain"]),
                *("handle", str(rule["handle"])),
            )
        tables = {entry["table"]["name"] for entry in rules if "table" in entry}
        if self.bridge in tables:
            self.run("removed the NAT table", "nft", "delete", "table", "ip", self.bridge)
        if self.bridge in {link["ifname"] for link in self.links()}:
            self.run("removed the bridge", "ip", "link", "delete", self.bridge)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "bridge": {"type": "str", "required": True},
            "address": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["address"])],
        supports_check_mode=True,
    )
    for program in ("ip", "nft"):
        module.get_bin_path(program, required=True, opt_dirs=["/usr/sbin", "/sbin"])
    if len(module.params["bridge"]) > 15:
        module.fail_json(msg=f"bridge '{module.params['bridge']}' has more than 15 characters: shorten lab_name.")
    network = Network(module)
    if module.params["state"] == "present":
        network.present(ipaddress.IPv4Interface(module.params["address"]))
    else:
        network.absent()
    module.exit_json(changed=bool(network.done), done=network.done)


if __name__ == "__main__":
    main()
