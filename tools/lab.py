"""One lab as its tools and tests see it: the machines of its inventory, and clients with its CA and tokens.

The inventory is read through Ansible's own classes, since ``ansible-inventory --list`` prints variables as written
(``lab_address`` is a template) and any inventory (containers, Vagrant, Terraform) may compute them.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import consul
import hvac
import requests

from plugins.module_utils.server_name import ServerNameAdapter

ROOT = Path(__file__).resolve().parents[1]
CONSUL_PORT = 8501
VAULT_PORT = 8200
PATRONI_PORT = 8008
TIMEOUT = 3.0


class LabError(Exception):
    """Something that keeps a tool from working; its text is a sentence with the remedy."""


@dataclass(frozen=True)
class Machine:
    """A host of the inventory."""

    name: str
    group: str
    address: str
    """At which its services are reached."""
    host: str = ""
    """Where ssh connects to; the address, unless it is another."""
    user: str = ""
    """Who logs in; empty: whom ssh's own settings name."""
    port: int = 0
    key: str = ""
    ssh_arguments: tuple[str, ...] = ()

    def ssh(self, *command: str, timeout: float = TIMEOUT) -> list[str]:
        """The command line that runs ``command`` (a shell's words) on the machine; never asks anything."""
        words = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, round(timeout))}", *self.ssh_arguments]
        if self.key:
            words += ["-i", self.key]
        if self.user:
            words += ["-l", self.user]
        if self.port:
            words += ["-p", str(self.port)]
        return [*words, self.host or self.address, "--", *command]

    def ssh_config(self, host: str) -> str:
        """The same as a block of an ssh_config file, for tools that want one."""
        lines = [f"Host {host}", f"  HostName {self.host or self.address}"]
        lines += [f"  User {self.user}"] if self.user else []
        lines += [f"  Port {self.port}"] if self.port else []
        if self.key:
            lines.append(f"  IdentityFile {self.key}")
        options = [word for word in self.ssh_arguments if "=" in word]
        lines += [f"  {name} {value}" for name, _, value in (option.partition("=") for option in options)]
        return "\n".join([*lines, "  BatchMode yes", ""])


@dataclass(frozen=True)
class Lab:
    """The lab and what this computer keeps of it."""

    name: str
    directory: Path
    kind: str
    network: str
    inventory: str
    machines: tuple[Machine, ...]
    services: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    """The table ``lab_services``, with names as the first machine knows them: each first one is the same for all."""
    machines_directory: str = ""
    others: frozenset[str] = frozenset()  # hosts that the inventory names outside group lab

    @property
    def authority(self) -> Path:
        """The lab's CA."""
        return self.directory / "tls" / "ca.pem"

    def group(self, name: str) -> list[Machine]:
        """The machines of a group, in the inventory's order; of ``lab`` all."""
        return [machine for machine in self.machines if name in (machine.group, "lab")]

    def services_of(self, machine: Machine) -> dict[str, dict[str, Any]]:
        """The entries of the table of services that a machine has."""
        return {name: entry for name, entry in self.services.items() if entry["group"] in (machine.group, "lab")}

    def machine(self, name: str) -> Machine:
        """One machine by its name."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise LabError(f"The inventory has no machine '{name}': it has {', '.join(m.name for m in self.machines)}.")

    def secrets(self) -> dict[str, str]:
        """Secrets that the controller generated, or nothing where the lab has not been made."""
        try:
            content = json.loads((self.directory / "secrets.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except PermissionError:
            raise LabError(f"{self.directory} belongs to another user: run this as its owner.") from None
        return {str(name): str(value) for name, value in content.items()}

    def vault_token(self) -> str:
        """The administrator's token of Vault, or an empty string where there is none yet."""
        try:
            return (self.directory / "vault" / "token").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""

    def consul(self, machine: Machine | None = None, token: str | None = None, timeout: float = TIMEOUT) -> Any:
        """A Consul client (py-consul) for a server, with the management token unless another is given."""
        chosen = machine or self.group("control")[0]
        client = consul.Consul(
            host=chosen.address,
            port=CONSUL_PORT,
            scheme="https",
            verify=str(self.authority),
            token=self.secrets().get("consul_management", "") if token is None else token,
            connections_timeout=timeout,
        )
        client.http.session = self.session()
        return client

    def vault(self, machine: Machine | None = None, token: str | None = None, timeout: float = TIMEOUT) -> Any:
        """A Vault client (hvac) for a node, with the administrator's token unless another is given.

        A node that stands by names the active one, and passes nothing on: what it passes on to a machine that has just
        died keeps it from taking over.
        """
        chosen = machine or self.group("control")[0]
        session = self.session()
        session.headers["X-Vault-No-Request-Forwarding"] = "true"
        return hvac.Client(
            url=f"https://{chosen.address}:{VAULT_PORT}",
            token=self.vault_token() if token is None else token,
            session=session,
            timeout=max(1, round(timeout)),
        )

    def session(self) -> requests.Session:
        """A session that trusts the lab's CA, and expects of each service of each machine the service's own name."""
        session = requests.Session()
        session.trust_env = False
        session.verify = str(self.authority)
        for service in self.services.values():
            for machine in self.group(service["group"]) if "port" in service else ():
                adapter = ServerNameAdapter(service["names"][0])
                session.mount(f"https://{machine.address}:{service['port']}/", adapter)
        return session

    def request(self, method: str, url: str, timeout: float = TIMEOUT, **options: Any) -> requests.Response:
        """A request to a service of the lab by its machine's address."""
        with self.session() as session:
            return session.request(method, url, timeout=timeout, **options)

    def get(self, url: str, timeout: float = TIMEOUT, **options: Any) -> requests.Response:
        """GET by its machine's address."""
        return self.request("GET", url, timeout, **options)

    def pages(self) -> list[str]:
        """The page's address on each frontend machine."""
        return [f"https://{machine.address}" for machine in self.group("frontend")]


def load(inventory: Sequence[str] = (), extra: dict[str, Any] | None = None) -> Lab:
    """Read the lab from its inventory (default: what ansible.cfg names). LAB_NAME applies as for ansible-playbook."""
    os.environ.setdefault("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
    # Ansible reads its configuration when it is imported.
    from ansible import constants
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager

    sources = list(inventory) or list(constants.DEFAULT_HOST_LIST)
    for source in sources:
        if not source.endswith(",") and not Path(source).exists():
            raise LabError(f"There is no inventory at {source}.")
    try:
        init_plugin_loader()
        loader = DataLoader()
        manager = InventoryManager(loader=loader, sources=sources)
        variable_manager = VariableManager(loader=loader, inventory=manager)
        if extra:
            variable_manager._extra_vars = {**variable_manager.extra_vars, **extra}
        hostvars = HostVars(manager, variable_manager, loader)
        children = manager.groups["lab"].child_groups if "lab" in manager.groups else []
        owners = {host.name: group.name for group in children for host in group.get_hosts()}
        if not owners:
            raise LabError(f"The inventory {', '.join(sources)} names no machine in a group under 'lab'.")
        machines = tuple(_machine(name, group, hostvars[name]) for name, group in owners.items())
        first = hostvars[machines[0].name]
        return Lab(
            name=str(first["lab_name"]),
            directory=Path(str(first["lab_directory"])),
            kind=str(first.get("lab_machines", "")),
            network=str(first.get("lab_network", "")),
            inventory=", ".join(sources),
            machines=machines,
            services=first["lab_services"],
            machines_directory=str(first.get("lab_machines_directory", "")),
            others=frozenset(manager.hosts) - set(owners),
        )
    except (AnsibleError, KeyError) as error:
        raise LabError(f"The inventory {', '.join(sources)} cannot be read: {error}") from error


def _machine(name: str, group: str, variables: Any) -> Machine:
    """A machine from Ansible's (templated) variables."""
    arguments = " ".join(str(variables.get(f"ansible_ssh_{kind}_args", "")) for kind in ("common", "extra"))
    return Machine(
        name=name,
        group=group,
        address=str(variables["lab_address"]),
        host=str(variables.get("ansible_host") or name),
        user=str(variables.get("ansible_user") or ""),
        port=int(variables.get("ansible_port") or 0),
        key=str(variables.get("ansible_ssh_private_key_file", "")),
        ssh_arguments=tuple(shlex.split(arguments)),
    )
