#!/usr/bin/python
"""Looks at a machine that exists already: may the lab's roles be installed on it? Claims it when told to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_survey
short_description: Whether a machine is fit for its part of the lab
description:
  - Finds everything on a machine that keeps the lab's roles from working, or that they would take over. Each problem is
    a sentence with its remedy. A machine that the lab has claimed already is asked only what can still change.
  - A machine without problems listens for two minutes at those of its ports that are free, so that the others can see
    whether they reach it (M(hashistack.lab.host_reach)); claiming the machine ends that.
  - What the machine had before the lab is kept in C(/etc/hashistack-lab.json), for playbooks/uninstall.yml.
options:
  state:
    description: C(seen) only looks; C(claimed) also notes on the machine whose it is.
    type: str
    choices: [seen, claimed]
    default: seen
  name:
    description: The machine's name in the inventory.
    type: str
    required: true
  address:
    description: Where the other machines reach it.
    type: str
    required: true
  lab:
    description: The lab, as C(id), C(name) and C(folder) of its clone.
    type: dict
    required: true
  roles:
    description: The roles that will run here.
    type: list
    elements: str
    required: true
  ports:
    description: The ports that they open at I(address).
    type: list
    elements: int
    required: true
  loopback_ports:
    description: The ports that they open on 127.0.0.1.
    type: list
    elements: int
    default: []
  packages:
    description: The Debian packages that they install.
    type: list
    elements: str
    required: true
  memory:
    description: Memory that the machine should have, in MiB; three quarters of it will do.
    type: int
    required: true
  disk:
    description: Free space that they need, in MiB.
    type: int
    default: 1536
  architectures:
    description: What the controller has programs for, as the kernel names it.
    type: list
    elements: str
    required: true
  releases:
    description: Releases of Debian that the roles know.
    type: list
    elements: str
    default: [bookworm, trixie]
  now:
    description: The controller's clock, in seconds since 1970.
    type: float
    required: true
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Look at the machine
  hashistack.lab.host_survey:
    name: web-1
    address: 192.0.2.11
    lab: { id: 0f3a, name: mine, folder: /home/ann/hashistack-lab }
    roles: [consul, dnsmasq]
    ports: [8301]
    packages: [dnsmasq-base]
    memory: 512
    architectures: [x86_64]
    now: "{{ now().timestamp() }}"
"""

RETURN = r"""
problems:
  description: Sentences.
  type: list
  returned: always
claimed:
  description: Whether the machine was the lab's already.
  type: bool
  returned: always
clock:
  description: Its clock, in seconds since 1970. The caller sees whether that is ahead of his own.
  type: float
  returned: always
architecture:
  description: Its kind of processor, as its kernel names it.
  type: str
  returned: always
"""

import contextlib
import glob
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.host_mark import MARK, as_it_is, read_mark

LISTENER = "/run/hashistack-lab-survey.pid"
LISTEN_SECONDS = 120
END_SECONDS = 5
# What packages that the lab brings take along when they go, although it was there before: locales does.
TAKEN = ("/etc/default/locale", "/etc/locale.conf")
CLOCK_SECONDS = 30
# What a lab makes and no package or role removes: systemd-creds' key, nginx's first page.
LEFT = ("/var/lib/systemd/credential.secret", "/var/www/html/index.nginx-debian.html")
MEBIBYTE = 1024 * 1024
# What a role would take over, by its name: each of these is somebody's own installation.
FOREIGN = {
    "backend": ("/opt/backend", "/etc/backend"),
    "consul": (
        "/etc/consul.d/*",
        "/var/lib/consul/*",
        "/opt/consul/*",
        "/usr/bin/consul",
        "/usr/local/bin/consul",
        "/etc/systemd/system/consul.service",
        "/lib/systemd/system/consul.service",
    ),
    "dnsmasq": ("/etc/dnsmasq.conf", "/etc/systemd/system/dnsmasq.service", "/lib/systemd/system/dnsmasq.service"),
    "frontend": ("/opt/frontend", "/etc/frontend", "/etc/php/*/fpm/pool.d/*"),
    "nginx": ("/etc/nginx/nginx.conf",),
    "postgresql": ("/etc/postgresql/*/*", "/var/lib/postgresql/*/*"),
    "vault": (
        "/etc/vault.d/*",
        "/var/lib/vault/*",
        "/opt/vault/*",
        "/usr/bin/vault",
        "/usr/local/bin/vault",
        "/etc/systemd/system/vault.service",
        "/lib/systemd/system/vault.service",
    ),
    "vault_agent": ("/etc/vault-agent.d/*", "/etc/systemd/system/vault-agent.service", "/usr/local/bin/vault"),
}
# Runs on after the module: answers at each port, and ends by itself.
LISTEN = """
import select, signal, socket, sys
signal.alarm(int(sys.argv[1]))
held = {}
for port in map(int, sys.argv[3:]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(socket.AF_INET, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((sys.argv[2], port))
            if kind == socket.SOCK_STREAM:
                one.listen(64)
        except OSError:
            continue
        held[one] = kind
print("ready", flush=True)
while True:
    for one in select.select(list(held), [], [])[0]:
        try:
            if held[one] == socket.SOCK_STREAM:
                one.accept()[0].close()
            else:
                data, sender = one.recvfrom(64)
                one.sendto(data, sender)
        except OSError:
            pass
"""


def release() -> tuple[str, str]:
    """The machine's codename and what it calls itself."""
    text = ""
    with contextlib.suppress(OSError), open("/etc/os-release", encoding="utf-8") as stream:
        text = stream.read()
    values = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    return values.get("VERSION_CODENAME", "") if values.get("ID") == "debian" else "", values.get("PRETTY_NAME", "it")


def memory_mib() -> int:
    """MemTotal of /proc/meminfo."""
    with open("/proc/meminfo", encoding="ascii") as stream:
        return int(stream.readline().split()[1]) // 1024


def addresses() -> set[str]:
    """The machine's own IPv4 addresses."""
    found = set()
    with contextlib.suppress(OSError), open("/proc/net/fib_trie", encoding="ascii") as stream:
        found = set(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", stream.read()))
    return found


def listening() -> dict[tuple[str, int], str]:
    """Inodes of the sockets that wait for others, by address and port."""
    found = {}
    for name, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}", encoding="ascii") as stream:
            for line in stream.readlines()[1:]:
                words = line.split()
                if words[3] != state:
                    continue
                where, port = words[1].split(":")
                if len(where) == 8:
                    address = socket.inet_ntoa(struct.pack("=I", int(where, 16)))
                else:
                    address = "0.0.0.0" if int(where, 16) == 0 else ""
                found[(address, int(port, 16))] = words[9]
    return found


def owner(inode: str) -> str:
    """The process that has a socket, as ``name (process 12)``."""
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(path) == f"socket:[{inode}]":
                pid = path.split("/")[2]
                with open(f"/proc/{pid}/comm", encoding="utf-8") as stream:
                    return f"{stream.read().strip()} (process {pid})"
    return "another program"


def check_ports(name: str, address: str, ports: list[int], loopback: list[int]) -> list[str]:
    """Ports that somebody else has."""
    problems = []
    taken = listening()
    for place, wanted in ((address, ports), ("127.0.0.1", loopback)):
        for port in wanted:
            inode = next((taken[key] for key in ((place, port), ("0.0.0.0", port)) if key in taken), "")
            if inode:
                problems.append(
                    f"{name}: port {port} is taken by {owner(inode)}: stop that there, or take another machine."
                )
    return problems


def check_foreign(name: str, roles: list[str]) -> list[str]:
    """Installations that are not ours, and that a role would take over."""
    problems = []
    for role in roles:
        found = next((path for pattern in FOREIGN.get(role, ()) for path in sorted(glob.glob(pattern))), "")
        if found:
            problems.append(
                f"{name}: {role.replace('_', ' ')} is there already ({found}), and is not this lab's: take another "
                f"machine, or remove it and what it holds yourself."
            )
    return problems


def check_packages(name: str, packages: list[str]) -> list[str]:
    """Whether apt has, or can fetch, the packages. It knows from which hosts it would."""
    if not shutil.which("apt-get"):
        return []  # The release has been said.
    command = ["apt-get", "-qq", "--print-uris", "--no-install-recommends", "install", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    text = done.stdout
    if done.returncode != 0:  # No list of packages yet: apt's sources are what counts.
        for file in ["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*")]:
            with contextlib.suppress(OSError), open(file, encoding="utf-8") as stream:
                text += re.sub(r"(?m)^\s*#.*", "", stream.read())
        if "://" not in text:
            return [f"{name}: apt has no source of packages: write Debian's into /etc/apt/sources.list."]
    proxy = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    if re.search(r"^Acquire::https?::Proxy ", proxy, re.MULTILINE):
        return []
    unknown = []
    for host in sorted(set(re.findall(r"https?://(?:[^/@\s]*@)?([^/:\s']+)", text))):
        try:
            socket.getaddrinfo(host, 80)
        except OSError:
            unknown.append(host)
    if not unknown:
        return []
    return [
        f"{name}: the name {', '.join(unknown)}, where apt gets packages, is not found: see the name servers in "
        "/etc/resolv.conf there."
    ]


def check(params: dict[str, Any], claimed: bool) -> list[str]:
    """Everything that is wrong."""
    name, problems = params["name"], []
    codename, pretty = release()
    if codename not in params["releases"]:
        problems.append(f"{name}: {pretty} is no Debian 12 or 13: install one of these on it.")
    if not os.path.isdir("/run/systemd/system"):
        problems.append(f"{name}: it does not run systemd, but the lab is made of its units: take another machine.")
    machine = os.uname().machine if sys.maxsize > 1 << 32 else f"{os.uname().machine} with a 32-bit Debian"
    if machine not in params["architectures"]:
        problems.append(
            f"{name}: there are no programs for its processor ({machine}), only for "
            f"{' and '.join(params['architectures'])}: take another machine."
        )
    late = params["now"] - time.time()
    # The other way round it may be only that a slow machine took long to answer: whoever has the answer tells.
    if late > CLOCK_SECONDS:
        problems.append(
            f"{name}: its clock is {late:.0f} s behind this computer's: set it, "
            "best by 'apt-get install systemd-timesyncd' there, or certificates are not valid yet."
        )
    own = addresses()
    if params["address"] not in own:
        others = ", ".join(sorted(address for address in own if not address.startswith("127.")))
        problems.append(
            f"{name}: {params['address']} is none of its own addresses ({others}): write the one at which the other "
            "machines reach it, as lab_address on its line."
        )
    if claimed:
        return problems
    if memory_mib() < params["memory"] * 3 // 4:
        problems.append(
            f"{name}: it has {memory_mib()} MiB of memory, and its services take {params['memory']}: give it more."
        )
    free = min(shutil.disk_usage(path).free // MEBIBYTE for path in ("/usr/local", "/opt", "/var/lib"))
    if free < params["disk"]:
        problems.append(
            f"{name}: it has {free} MiB of disk free, and needs {params['disk']}: make room, or give it more."
        )
    problems += check_foreign(name, params["roles"])
    problems += check_ports(name, params["address"], params["ports"], params["loopback_ports"])
    return problems + check_packages(name, params["packages"])


def check_mark(mark: dict[str, Any], params: dict[str, Any]) -> list[str]:
    """A machine of another lab is not ours."""
    name, lab = params["name"], params["lab"]
    if mark["lab"] != lab["id"]:
        return [
            f"{name}: it belongs to lab '{mark['name']}' of the clone in {mark['folder']}: take another machine, or "
            "remove that lab from it first, in that clone, by playbooks/uninstall.yml."
        ]
    if mark["machine"] != name:
        return [f"{name}: it is this lab's machine {mark['machine']} already: give each machine one line."]
    return []


def before() -> dict[str, Any]:
    """What of the machine the roles will change, as it is now."""
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n"]
    known = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return {
        "files": {path: as_it_is(path) for path in TAKEN},
        "absent": [path for path in LEFT if not os.path.exists(path)],
        "packages": sorted(line.split()[0] for line in known if line.endswith(" installed")),
        "resolv_conf": as_it_is("/etc/resolv.conf"),
    }


def end_listener() -> None:
    """End what an earlier survey left running."""
    with contextlib.suppress(OSError, ValueError):
        with open(LISTENER, encoding="ascii") as stream:
            pid = int(stream.read())
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            ours = LISTEN.encode() in stream.read()
        if ours:
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + END_SECONDS
            while os.path.exists(f"/proc/{pid}/fd/0") and time.monotonic() < deadline:
                time.sleep(0.02)
        os.remove(LISTENER)


def listen(params: dict[str, Any]) -> None:
    """Answer at the ports for a while."""
    command = ["/usr/bin/python3", "-c", LISTEN, str(LISTEN_SECONDS), params["address"], *map(str, params["ports"])]
    process = subprocess.Popen(  # pylint: disable=consider-using-with  # it outlives this module
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    with open(LISTENER, "w", encoding="ascii") as stream:
        stream.write(str(process.pid))
    if process.stdout:
        process.stdout.readline()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["seen", "claimed"], "default": "seen"},
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "lab": {"type": "dict", "required": True},
            "roles": {"type": "list", "elements": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "loopback_ports": {"type": "list", "elements": "int", "default": []},
            "packages": {"type": "list", "elements": "str", "required": True},
            "memory": {"type": "int", "required": True},
            "disk": {"type": "int", "default": 1536},
            "architectures": {"type": "list", "elements": "str", "required": True},
            "releases": {"type": "list", "elements": "str", "default": ["bookworm", "trixie"]},
            "now": {"type": "float", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    told = {"architecture": os.uname().machine, "clock": time.time()}
    end_listener()
    mark = read_mark()
    if params["state"] == "claimed":
        if mark is None and not module.check_mode:
            lab = params["lab"]
            content = {"lab": lab["id"], "name": lab["name"], "folder": lab["folder"], "machine": params["name"]}
            temporary = f"{MARK}.new"
            with open(temporary, "w", encoding="utf-8") as stream:
                json.dump({**content, "before": before()}, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, MARK)
        module.exit_json(changed=mark is None, problems=[], claimed=True, **told)
    wrong = check_mark(mark, params) if mark else []
    problems = wrong or check(params, mark is not None)
    if not problems and mark is None:
        listen(params)
    module.exit_json(changed=False, problems=problems, claimed=mark is not None, **told)


if __name__ == "__main__":
    main()
