"""Filters for the lab's network, the project's paths, certificates and restarts."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.hashistack.lab.plugins.module_utils import lab_owner


def project_path(path: str) -> str:
    """The absolute path of a path in this project, whichever configuration file and folder Ansible runs with."""
    return str(Path(__file__).resolve().parents[2] / path)


def own_lab(purpose: str) -> str:
    """The name of a lab that this clone makes for itself."""
    name: str = lab_owner.own_lab(project_path(""), purpose)
    return name


def lab_network(name: str) -> str:
    """The network of a lab: a /24 of 10.64.0.0/10 that follows from its name.

    >>> lab_network("lab")
    '10.101.17.0/24'
    """
    digest = hashlib.sha256(name.encode()).digest()
    return f"10.{64 + digest[0] % 64}.{digest[1]}.0/24"


def network_address(network: str, index: int) -> str:
    """The address number ``index`` of a network.

    >>> network_address("10.80.1.0/24", 11)
    '10.80.1.11'
    """
    return str(ipaddress.ip_network(network)[int(index)])


def nameservers(resolv_conf: str) -> list[str]:
    r"""The name servers of a resolv.conf that another machine can reach too: IPv4, not this computer's own.

    >>> nameservers("nameserver 127.0.0.53\nnameserver 192.0.2.53\n")
    ['192.0.2.53']
    """
    words = [line.split() for line in resolv_conf.splitlines()]
    servers = [ipaddress.ip_address(line[1].split("%")[0]) for line in words if line[:1] == ["nameserver"]]
    return [str(server) for server in servers if server.version == 4 and not server.is_loopback]


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def service_certificates(
    services: dict[str, dict[str, Any]], host: str, groups: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """The certificates of a host, as entries of the ``certificates`` module.

    A certificate names what its service alone is, not the machine: its other services must not pass for it.

    Args:
        services: ``lab_services`` (group_vars/lab/services.yml), as this host knows it.
        host: the host's name, the folder of its certificates.
        groups: group to its hosts.

    """
    found = {
        service.get("certificate", name): service["names"]
        for name, service in services.items()
        if "names" in service and host in groups.get(service["group"], [])
    }
    return [
        {
            "name": f"{host}/{certificate}",
            "common_name": names[0],
            "dns_names": [name for name in names if not is_address(name)],
            "ip_addresses": [name for name in names if is_address(name)],
        }
        for certificate, names in found.items()
    ]


def clients(services: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The entries of the services that a service lets in."""
    return [services[client] for client in services[name]["serves"]]


def must_restart(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]], *units: str) -> list[str]:
    """Those hosts where one of these results of modules files and systemd_unit says that a running unit must restart.

    >>> must_restart(["a", "b"], {"a": {"web_unit": {"action": "restart"}}, "b": {}}, "web_unit")
    ['a']
    """
    return [host for host in hosts if any(hostvars[host].get(unit, {}).get("action") == "restart" for unit in units)]


class FilterModule:
    """Offers the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filter name to function."""
        return {
            "clients": clients,
            "lab_network": lab_network,
            "must_restart": must_restart,
            "nameservers": nameservers,
            "network_address": network_address,
            "own_lab": own_lab,
            "project_path": project_path,
            "service_certificates": service_certificates,
        }
