"""Find everything that is wrong with an inventory and its controller, before anything is touched.

An action plugin, because it runs on the controller without a connection (the machines may not exist yet), sees every
host's variables as written, and can say all problems at once. Each problem is a sentence: what is wrong, and what to
write or run instead. Nothing here changes anything, so it runs the same in check mode.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.hashistack.lab.plugins.module_utils.nspawn import machines

MEMORY_PER_MACHINE_MIB = 450
DISK_NEW_LAB_MIB = 3072
DISK_PER_MACHINE_MIB = 300
READ_HERE = {
    "lab_address",
    "lab_directory",
    "lab_index",
    "lab_name",
    "lab_network",
    "lab_preflight_skip",
    "lab_programs",
}
SERVICES = "inventories/group_vars/lab/services.yml"
# What one machine is told, another one must know as well.
WHOLE_LAB = (
    "backend_db_credentials",
    "lab_datacenter",
    "lab_domain",
    "lab_name",
    "lab_network",
    "lab_vault_shares",
    "lab_vault_threshold",
    "vault_database_default_ttl",
    "vault_database_max_ttl",
)
MEBIBYTE = 1024 * 1024
LAB_NAME = re.compile(r"[a-z]([a-z0-9-]{0,9}[a-z0-9])?")
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def plural(count: int, noun: str) -> str:
    """``3 machines``, ``1 machine``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def check_platform(platform: str) -> list[str]:
    """Containers are Linux machines that share the controller's kernel."""
    if platform.startswith("linux"):
        return []
    text = (
        f"The controller runs {platform}, but the containers inventory needs Linux (its machines share the "
        "controller's kernel): use a Debian machine, or virtual machines with -i inventories/vagrant."
    )
    return [text]


def check_privilege(euid: int, sudo: str | None, sudo_works: bool, password_given: bool) -> list[str]:
    """Making machines needs root: by being root, by passwordless sudo, or by a password given to Ansible."""
    if euid == 0 or (sudo and (sudo_works or password_given)):
        return []
    if sudo:
        return ["You are not root and sudo asks for a password: run 'sudo -v' first, or use ansible-playbook -K."]
    return ["You are not root and there is no sudo: run as root, or install sudo and give your user the right to it."]


def check_lab_name(name: str) -> list[str]:
    """The name becomes part of an interface name (15 characters at most) and of host names."""
    if LAB_NAME.fullmatch(name):
        return []
    text = (
        f"LAB_NAME is '{name}', but it must be 1 to 11 characters of a-z, 0-9 and '-', begin with a letter and end "
        "with a letter or digit, such as LAB_NAME=test."
    )
    return [text]


def check_groups(groups: Mapping[str, Sequence[str]], known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sizes of the lab's groups (``known``: lab_groups), and that each machine is in exactly one, under ``lab``."""
    problems = []
    for name, wanted in known.items():
        found, sizes = groups.get(name, ()), [str(size) for size in wanted.get("machines", ())]
        if not found:
            problems.append(f"Group '{name}' is empty: add at least one host to it, such as {name}-1.")
        elif sizes and str(len(found)) not in sizes:
            problems.append(
                f"Group '{name}' has {plural(len(found), 'machine')} ({', '.join(found)}), but {wanted['reason']}: "
                f"make it {' or '.join(filter(None, (', '.join(sizes[:-1]), sizes[-1])))}."
            )
    homes: dict[str, list[str]] = {}
    for name in known:
        for host in groups.get(name, ()):
            homes.setdefault(host, []).append(name)
    for host, found in homes.items():
        if len(found) > 1:
            problems.append(f"{host} is in the groups {' and '.join(found)}: a machine has one task, keep one of them.")
    lab = groups.get("lab", ())
    outside = [host for host in homes if host not in lab]
    if outside:
        problems.append(
            f"{', '.join(outside)}: not in group 'lab'. Write lab's children as {', '.join(known)} "
            "(see inventories/containers)."
        )
    return problems


def check_services(services: Mapping[str, Mapping[str, Any]], known: Iterable[str]) -> list[str]:
    """That what the table of services names is in it: groups (``known``) and clients."""
    problems = []
    for name, entry in services.items():
        if entry.get("group") not in ("lab", *known):
            problems.append(
                f"Service '{name}' is of group '{entry.get('group')}', which is none: write one of {', '.join(known)} "
                f"into {SERVICES}, or add it to lab_groups there."
            )
        for client in set(entry.get("serves", ())) - set(services):
            problems.append(f"Service '{name}' serves '{client}', which is no service: see {SERVICES}.")
    return problems


def check_addresses(hosts: Mapping[str, Mapping[str, Any]], network: str) -> list[str]:
    """Each host's ``lab_index`` and ``lab_address``: present, of use in ``network``, and its alone.

    A value that could not be computed is an exception in its place.
    """
    problems = []
    try:
        subnet = ipaddress.ip_network(network)
    except ValueError as error:
        return [f"lab_network is '{network}': {error}. Write a network such as 10.77.5.0/24."]
    seen: dict[str, str] = {}
    indexes: dict[int, str] = {}
    # The first address is the controller's own on the bridge, the last is for broadcasts.
    last = subnet.num_addresses - 2
    for host, values in hosts.items():
        index = values.get("lab_index")
        if index is not None:
            number = int(index) if re.fullmatch(r"\d+", str(index)) else -1
            if not 2 <= number <= last:
                problems.append(
                    f"{host}: lab_index is {index}, but it must be a number from 2 to {last} (its place in "
                    f"{subnet}; 1 is the controller's)."
                )
                continue
            if number in indexes:
                problems.append(
                    f"{host}: lab_index {number} is {indexes[number]}'s already: write another, such as "
                    f"{free_index(hosts, last)}."
                )
                continue
            indexes[number] = host
        address = values.get("lab_address")
        if index is None and (address is None or isinstance(address, Exception)):
            problems.append(
                f"{host}: lab_index is missing: write 'lab_index: {free_index(hosts, last)}' under it in the inventory."
            )
            continue
        try:
            parsed = ipaddress.ip_address(str(address))
        except ValueError:
            problems.append(f"{host}: lab_address is '{address}', which is no IP address: write one of {subnet}.")
            continue
        if parsed not in subnet:
            problems.append(f"{host}: lab_address {parsed} is outside lab_network {subnet}: write one of that network.")
        elif str(parsed) in seen:
            problems.append(f"{host}: lab_address {parsed} is {seen[str(parsed)]}'s already: each needs its own.")
        seen.setdefault(str(parsed), host)
    return problems


def check_own_addresses(hosts: Mapping[str, Any]) -> list[str]:
    """Each ``lab_address`` of machines that exist already: an IPv4 address, and its alone."""
    problems = []
    seen: dict[str, str] = {}
    for host, said in hosts.items():
        try:
            address = str(ipaddress.IPv4Address(str(said)))
        except ValueError:
            problems.append(
                f"{host}: its address is not known: write 'ansible_host: ADDRESS' on its line, or, where that is a "
                "name or only the way for ssh, 'lab_address: ADDRESS' too, with the IPv4 address at which the other "
                "machines reach it."
            )
            continue
        if address in seen:
            problems.append(f"{host}: {address} is {seen[address]}'s already: each machine needs its own.")
        seen.setdefault(address, host)
    return problems


def check_host_names(hosts: Iterable[str]) -> list[str]:
    """A machine's name becomes a name in Consul's DNS, a folder, a policy and a database user."""
    return [
        f"'{host}' is no name for a machine: write one of lower-case letters, digits and '-', such as "
        f"'{re.sub('[^a-z0-9]+', '-', host.lower()).strip('-')[:63] or 'web-1'}: {{ ansible_host: {host} }}'."
        for host in hosts
        if not HOST_NAME.fullmatch(host)
    ]


def free_index(hosts: Mapping[str, Mapping[str, Any]], last: int) -> int:
    """The smallest index from 11 on that no host uses."""
    used = {str(values.get("lab_index")) for values in hosts.values()}
    return next((number for number in range(11, last) if str(number) not in used), 2)


def used_names(text: str, prefixes: Iterable[str]) -> set[str]:
    """Names beginning with one of the prefixes that ``text`` (YAML) reads, as opposed to those that it sets."""
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, prefixes))})_[a-z0-9_]+\b")
    names: set[str] = set()
    for line in text.splitlines():
        code = line.split(" #", 1)[0]
        if code.lstrip().startswith("#"):
            continue
        names.update(pattern.findall(re.sub(r"^\s*(?:- )?[a-z0-9_]+:", "", code)))
    return names


def check_options(variables: Mapping[str, Sequence[str]], known: set[str], prefixes: Iterable[str]) -> list[str]:
    """Variables (name to the hosts that have it) that look like an option of ours but that nothing reads."""
    problems = []
    beginnings = tuple(f"{prefix}_" for prefix in prefixes)
    for name, hosts in sorted(variables.items()):
        if not name.startswith(beginnings) or name in known:
            continue
        where = hosts[0] if len(hosts) == 1 else "every machine" if len(hosts) > 6 else ", ".join(hosts)
        nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
        advice = f"did you mean '{nearest[0]}'?" if nearest else "see the README of the role, or remove it."
        problems.append(f"Unknown option '{name}' (set for {where}): {advice}")
    return problems


def check_owners(
    own: Mapping[str, Iterable[str]],
    options: Mapping[str, str],
    groups: Mapping[str, Sequence[str]],
    services: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Options on a machine's own line (host to names) of a role (option to role) that does not run there."""
    problems = []
    homes: dict[str, list[str]] = {}
    for service, entry in services.items():
        for role in entry.get("roles", (service,)):
            homes.setdefault(role, []).append(entry["group"])
    for host, names in own.items():
        for name in sorted(names):
            where = homes.get(options.get(name, ""), ())
            if where and not any(host in groups.get(group, ()) for group in where):
                problems.append(
                    f"{name} has no effect on {host}: role {options[name]} runs on the machines of group "
                    f"{' and '.join(where)}. Move it there, or remove it."
                )
    return problems


def check_group_vars(own: Mapping[str, Iterable[str]], shipped: set[str]) -> list[str]:
    """Options in the ``vars`` of a group of a hosts file (group to names) that ``group_vars`` sets, which wins."""
    return [
        f"{name} has no effect in the vars of group '{group}', since inventories/group_vars sets it and wins: write it "
        f"into inventories/group_vars/{'lab/' if group in ('all', 'lab') else f'{group}.yml'}."
        for group, names in own.items()
        for name in sorted(shipped.intersection(names))
    ]


def check_whole_lab(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Options of the whole lab (name to value by host) that machines know differently."""
    problems = []
    for name, by_host in values.items():
        hosts: dict[str, list[str]] = {}
        for host, value in by_host.items():
            hosts.setdefault(str(value), []).append(host)
        if len(hosts) > 1:
            said = " and ".join(f"'{value}' for {', '.join(found)}" for value, found in hosts.items())
            problems.append(
                f"{name} is {said}, but the whole lab has one: write it into inventories/group_vars/lab/, and nowhere "
                "else."
            )
    return problems


def check_choices(values: Mapping[str, Mapping[str, Any]], choices: Mapping[str, Sequence[Any]]) -> list[str]:
    """Options (name to value by host) whose value is not one of the choices of the role's argument_specs."""
    problems = []
    for name, allowed in sorted(choices.items()):
        wrong: dict[str, list[str]] = {}
        for host, value in values.get(name, {}).items():
            if isinstance(value, list):
                bad = [item for item in value if item not in allowed]
            else:
                bad = [] if value in allowed or str(value) in map(str, allowed) else [value]
            for item in bad:
                wrong.setdefault(str(item), []).append(host)
        for text, hosts in wrong.items():
            nearest = difflib.get_close_matches(text, [str(item) for item in allowed], n=1, cutoff=0.5)
            hint = f" (did you mean '{nearest[0]}'?)" if nearest else ""
            problems.append(
                f"{name} is '{text}' (for {', '.join(hosts)}), but it must be one of "
                f"{', '.join(str(item) for item in allowed)}{hint}."
            )
    return problems


def check_programs(programs: Mapping[str, str], commands: Sequence[str]) -> list[str]:
    """Programs that the roles push from the controller, and commands that the controller itself needs."""
    problems = []
    for name, path in programs.items():
        if path and not (Path(path).is_file() and os.access(path, os.X_OK)):
            problems.append(f"The program '{name}' is not at {path}: run 'make prepare', which puts it there.")
    search = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    missing = [command for command in commands if not shutil.which(command, path=search)]
    if missing:
        problems.append(
            f"The controller lacks the command{'s' if len(missing) > 1 else ''} {', '.join(missing)}: run "
            "'make prepare', which installs the Debian packages that hold them."
        )
    return problems


def check_network(network: str, bridge: str, addresses: list[Any], routes: list[Any]) -> list[str]:
    """Addresses and routes of the controller (as ``ip -json`` prints them) that overlap the lab's network."""
    try:
        subnet = ipaddress.ip_network(network)
    except ValueError:
        return []  # check_addresses has said so
    users = {}
    for link in addresses:
        for item in link.get("addr_info", []):
            if item.get("family") == "inet" and link.get("ifname") != bridge:
                found = ipaddress.ip_interface(f"{item['local']}/{item['prefixlen']}").network
                if found.overlaps(subnet):
                    users[link["ifname"]] = str(found)
    for route in routes:
        destination, device = route.get("dst", "default"), route.get("dev", "")
        if destination == "default" or device == bridge or route.get("type") in ("broadcast", "local"):
            continue
        try:
            found = ipaddress.ip_network(destination, strict=False)
        except ValueError:
            continue
        # Half-internet routes (0.0.0.0/1, 10.0.0.0/8 of a VPN) are no conflict: the bridge's own route is longer.
        if found.overlaps(subnet) and found.prefixlen >= subnet.prefixlen - 7:
            users.setdefault(device or "a route", str(found))
    return [
        f"lab_network {subnet} is in use on the controller ({where}: {what}): choose another LAB_NAME (the network "
        "follows from it), or write a free one, such as lab_network: 10.213.7.0/24, into "
        "inventories/group_vars/lab/lab.yml."
        for where, what in sorted(users.items())
    ]


def check_machine_names(lab: str, hosts: Sequence[str], others: Mapping[str, Sequence[str]]) -> list[str]:
    """Machines whose name on this computer (LAB-HOST) is that of a machine of another lab (name to its machines)."""
    taken = {f"{name}-{machine}": (name, machine) for name, machines in others.items() for machine in machines}
    return [
        f"{host}: on this computer it would be named {lab}-{host}, as {taken[f'{lab}-{host}'][1]} of lab "
        f"'{taken[f'{lab}-{host}'][0]}' is: choose another LAB_NAME, or another name for it."
        for host in hosts
        if f"{lab}-{host}" in taken
    ]


def check_capacity(starting: int, new: bool, memory_mib: int, disk_mib: int, directory: str) -> list[str]:
    """Memory and disk (in MiB) for the machines that still have to start."""
    problems = []
    wanted = starting * MEMORY_PER_MACHINE_MIB
    if memory_mib < wanted:
        problems.append(
            f"{plural(starting, 'machine')} to start need about {wanted} MiB of memory, {memory_mib} MiB are free: "
            "stop something, take hosts out of the inventory, or take 'memory' out with "
            '-e \'{"lab_preflight_skip": ["memory"]}\'.'
        )
    wanted = DISK_NEW_LAB_MIB if new else starting * DISK_PER_MACHINE_MIB
    if disk_mib < wanted:
        problems.append(
            f"The lab needs about {wanted} MiB of disk at {directory}, {disk_mib} MiB are free: remove something "
            "there (an old lab: 'make down LAB_NAME=...'), or move the clone to a bigger disk."
        )
    return problems


def option_specs(roles: Path) -> tuple[set[str], dict[str, str], dict[str, list[Any]]]:
    """Read every role's argument_specs: the roles' names, the role of each option, and the choices of some."""
    names: set[str] = set()
    options: dict[str, str] = {}
    choices: dict[str, list[Any]] = {}
    for file in sorted(roles.glob("*/meta/argument_specs.yml")):
        names.add(file.parent.parent.name)
        specs = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("argument_specs", {})
        for entry in specs.values():
            for option, spec in (entry.get("options") or {}).items():
                options[option] = file.parent.parent.name
                if spec.get("choices"):
                    choices[option] = spec["choices"]
    return names, options, choices


def memory_available_mib() -> int:
    """MemAvailable of /proc/meminfo, in MiB."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) // 1024 if found else sys.maxsize


def disk_free_mib(directory: str) -> int:
    """Free space for an unprivileged user at ``directory`` or its nearest parent that exists, in MiB."""
    path = Path(directory)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // MEBIBYTE


def other_labs(directory: str) -> dict[str, list[str]]:
    """The labs beside the one in ``directory`` that have machines on this computer, with their names."""
    own = Path(directory)
    machines: dict[str, list[str]] = {}
    for path in own.parent.glob("*/*/"):
        if path.parent != own:
            machines.setdefault(path.parent.name, []).append(path.name)
    return machines


def ip_json(*arguments: str) -> list[Any]:
    """What ``ip -json`` says, or an empty list where there is no ip command (check_programs says that)."""
    try:
        done = subprocess.run(["ip", "-json", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    result = json.loads(done.stdout or "[]")
    return result if isinstance(result, list) else []


def sudo_works(sudo: str | None) -> bool:
    """Whether sudo needs no password now."""
    if not sudo:
        return False
    try:
        return subprocess.run([sudo, "-n", "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def report(problems: Sequence[str]) -> str:
    """All problems as one list."""
    head = f"{plural(len(problems), 'problem')} found, nothing was changed:"
    return "\n".join([head, *(f"  {number}. {text}" for number, text in enumerate(problems, 1))])


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Task arguments.

    ``project`` the clone's folder; ``containers`` whether machines are made here; ``bridge`` the lab's own interface;
    ``choices`` of options that are the lab's and no role's; ``commands`` that the controller needs; ``skip`` of
    ``memory`` and ``controller``.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("project", "containers", "bridge", "choices", "commands", "skip"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Collect every problem and fail with all of them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        problems = self._problems(variables)
        if problems:
            result.update(failed=True, msg=report(problems))
        else:
            result.update(changed=False, msg="The inventory and the controller are in order.")
        return result

    def _problems(self, variables: dict[str, Any]) -> list[str]:
        arguments = self._task.args
        project = Path(arguments["project"])
        containers = bool(arguments.get("containers", False))
        skip = arguments.get("skip") or []
        groups: dict[str, list[str]] = {name: list(members) for name, members in variables["groups"].items()}
        hosts = [host for host in groups.get("lab", []) if host in variables["hostvars"]]
        raw = {host: variables["hostvars"].raw_get(host) for host in hosts}

        problems = check_platform(sys.platform) if containers else []
        portable = not problems
        table = yaml.safe_load((project / SERVICES).read_text(encoding="utf-8"))
        problems += check_groups(groups, table["lab_groups"])
        problems += check_services(table["lab_services"], table["lab_groups"])
        if hosts:
            problems += self._inventory(variables, hosts, raw, project, containers, table["lab_services"])
        if not containers or not portable or "controller" in skip:
            return problems
        sudo = shutil.which("sudo")
        password = bool(variables.get("ansible_become_password") or self._play_context.become_pass)
        problems += check_privilege(os.geteuid(), sudo, sudo_works(sudo), password)
        problems += check_programs({}, arguments.get("commands") or [])
        if not hosts:
            return problems
        first = variables["hostvars"][hosts[0]]
        problems += check_network(
            str(first.get("lab_network")), str(arguments.get("bridge")), ip_json("addr"), ip_json("-4", "route")
        )
        running = {machine.name for machine in machines()}
        starting = [host for host in hosts if f"{first.get('lab_name')}-{host}" not in running]
        directory = str(first.get("lab_machines_directory") or first.get("lab_directory"))
        problems += check_machine_names(str(first.get("lab_name")), hosts, other_labs(directory))
        capacity = check_capacity(
            len(starting), len(starting) == len(hosts), memory_available_mib(), disk_free_mib(directory), directory
        )
        return problems + [text for text in capacity if not ("memory" in skip and "of memory" in text)]

    def _inventory(
        self,
        variables: dict[str, Any],
        hosts: list[str],
        raw: dict[str, dict[str, Any]],
        project: Path,
        containers: bool,
        services: Mapping[str, Mapping[str, Any]],
    ) -> list[str]:
        def value(host: str, name: str) -> Any:
            try:
                return variables["hostvars"][host].get(name)
            except (AnsibleError, ValueError, TypeError, KeyError) as error:  # a template that cannot be computed
                return ValueError(str(error))

        first = hosts[0]
        problems = check_lab_name(str(value(first, "lab_name"))) if "lab_name" in raw[first] else []
        problems += check_host_names(hosts)
        if value(first, "lab_machines") == "other":
            problems += check_own_addresses({host: value(host, "lab_address") for host in hosts})
        elif containers or "lab_network" in raw[first]:
            addresses: dict[str, dict[str, Any]] = {
                host: {name: value(host, name) for name in ("lab_index", "lab_address") if name in raw[host]}
                for host in hosts
            }
            problems += check_addresses(addresses, str(value(first, "lab_network")))

        roles, options, choices = option_specs(project / "roles")
        choices |= self._task.args.get("choices") or {}
        prefixes = roles | {"lab"}
        texts = [file.read_text(encoding="utf-8") for file in sorted(project.glob("playbooks/**/*.yml"))]
        for host in hosts:
            texts.extend(str(item) for item in raw[host].values() if isinstance(item, (str, list, dict)))
        shipped: set[str] = set()
        for file in sorted((project / "inventories" / "group_vars").glob("**/*.yml")):
            shipped |= set(re.findall(r"^(\w+):", file.read_text(encoding="utf-8"), re.MULTILINE))
        # What is shipped there under lab_ is the list of the lab's own options.
        known = set(options) | READ_HERE | {name for name in shipped if name.startswith("lab_")}
        for text in texts:
            known |= used_names(text, prefixes)
        owners: dict[str, list[str]] = {}
        for host in hosts:
            for name in raw[host]:
                if isinstance(name, str) and IDENTIFIER.fullmatch(name):
                    owners.setdefault(name, []).append(host)
        problems += check_options(owners, known, prefixes)
        values = {name: {host: value(host, name) for host in owners.get(name, ())} for name in (*choices, *WHOLE_LAB)}
        problems += check_choices(values, choices)
        problems += check_whole_lab({name: values[name] for name in WHOLE_LAB})
        inventory = variables["hostvars"]._inventory
        problems += check_owners(
            {host: inventory.hosts[host].vars for host in hosts}, options, variables["groups"], services
        )
        problems += check_group_vars({name: group.vars for name, group in inventory.groups.items()}, shipped)
        programs = value(first, "lab_programs")
        if isinstance(programs, Mapping):
            problems += check_programs(dict(programs), ())
        elif isinstance(programs, Exception):
            problems.append("The programs that the roles push (consul, vault) are not prepared: run 'make prepare'.")
        return problems
