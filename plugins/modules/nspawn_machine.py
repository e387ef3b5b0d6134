#!/usr/bin/python
"""A machine on this computer: systemd-nspawn that boots systemd and sshd over a shared base tree."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_machine
short_description: A booted systemd-nspawn machine
description:
  - Starts, stops and removes machines that boot systemd and answer ssh. A machine is a writable overlay on a
    read-only base tree, so a new one costs no copy; its files stay when it is stopped and started.
  - Works where PID 1 is systemd (the machine is a transient unit) and where it is not (a small loop stands in for
    the unit). A C(reboot) from inside starts the machine again; a C(poweroff) ends it.
  - community.general drives nspawn machines only through machinectl, which needs systemd as PID 1.
options:
  name:
    description: Name of the machine on this computer.
    type: str
    required: true
  state:
    description: C(started) boots it and waits for sshd, C(stopped) keeps its files, C(absent) removes
      them and waits for no service to end.
    type: str
    choices: [started, stopped, absent]
    default: started
  directory:
    description: Folder of the machine's own files.
    type: path
    required: true
  base:
    description:
      - The base tree, or several folders joined by colons of which the first lies on top, as overlayfs takes them.
      - Needed to make a machine; one that exists keeps the tree that it was made from.
    type: str
  hostname:
    description: The host name inside.
    type: str
  bridge:
    description: Bridge to connect it to.
    type: str
  address:
    description: Its address with the prefix length.
    type: str
  gateway:
    description: Its default gateway.
    type: str
  nameservers:
    description: Name servers that it knows when it is made. What is set inside later stays.
    type: list
    elements: str
    default: []
  authorized_key:
    description: The public key that may log in as root.
    type: str
  timeout:
    description: Seconds to wait for sshd, or for the machine's end.
    type: int
    default: 90
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Boot a machine
  hashistack.lab.nspawn_machine:
    name: lab-backend-1
    directory: /var/lib/hashistack-lab/lab/backend-1
    base: /root/.cache/hashistack-lab/base-bookworm-1234
    hostname: backend-1
    bridge: hl-lab
    address: 10.80.1.101/24
    gateway: 10.80.1.1
    authorized_key: "{{ lookup('file', 'id_ed25519.pub') }}"
"""

RETURN = r"""
host_key:
  description: The machine's public ssh host key.
  type: str
  returned: when started
"""

import contextlib
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils import beneath
from ansible_collections.hashistack.lab.plugins.module_utils.nspawn import machines

HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
# systemd-nspawn ends with this code when the machine wants to be started again.
REBOOT = 133
# What systemd takes for a power button that was pressed.
POWEROFF = signal.SIGRTMIN + 4
CGROUP = "/sys/fs/cgroup"
# Bytes, several times what a machine of the lab needs: one that leaks is not the whole computer's end.
MEMORY = 1 << 30
# Stands in for a unit where PID 1 is not systemd: nspawn keeps its machine's cgroups below its own, so each machine
# needs one, or machines would share a tree; and a machine that reboots is started again. Its memory is limited where a
# controller for that is mounted.
LOOP = """
for group in {groups}; do
  mkdir -p "$group"
  for limit in memory.max memory.limit_in_bytes; do [ ! -e "$group/$limit" ] || echo {memory} > "$group/$limit"; done
  echo $$ > "$group/cgroup.procs"
done
while :; do
  "$@" && exit 0
  code=$?
  [ "$code" -eq {reboot} ] || exit "$code"
done
"""


def settings(params: dict[str, Any]) -> dict[str, str]:
    """The files inside a machine that follow from the module's options, path to content."""
    files = {
        "etc/hostname": f"{params['hostname']}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {params['hostname']}\n::1 localhost ip6-localhost\n",
        # Sorts before systemd's 80-container-host0.network, which would take a link-local address.
        "etc/systemd/network/10-lab.network": (
            "[Match]\nName=host0\n\n[Network]\n"
            f"Address={params['address']}\nGateway={params['gateway']}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        ),
    }
    if params["authorized_key"]:
        files["root/.ssh/authorized_keys"] = params["authorized_key"].strip() + "\n"
    return files


def nspawn_pid(root: str) -> int | None:
    """The process that runs the machine whose files are at ``root``; None where there is none."""
    return next((running.pid for running in machines() if running.directory == root), None)


def of_the_same_name(name: str, root: str) -> str:
    """Where the files of another machine are that runs under the same name; empty where none does.

    The machine ``c`` of a lab ``a-b`` has the same name as ``b-c`` of a lab ``a``.
    """
    return next((other.directory for other in machines() if other.name == name and other.directory != root), "")


def children(pid: int) -> list[int]:
    """The processes that ``pid`` has started."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as stream:
            return [int(child) for child in stream.read().split()]
    except OSError:
        return []


def hierarchies() -> list[str]:
    """The mounted cgroup hierarchies in which systemd keeps its units (v2, v1's own, or both), and v1's for memory."""
    places = [CGROUP, f"{CGROUP}/systemd", f"{CGROUP}/unified", f"{CGROUP}/memory"]
    with open("/proc/mounts", encoding="ascii") as stream:
        mounted = {line.split()[1] for line in stream if line.split()[2] in ("cgroup", "cgroup2")}
    return [place for place in places if place in mounted]


def answers_ssh(address: str) -> bool:
    """Whether an ssh server greets at the address."""
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def end(pid: int, number: int) -> None:
    """Send a signal to a process, which may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Machine:
    """One machine on this computer."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name: str = module.params["name"]
        self.unit = f"hashistack-{self.name}.service"
        self.directory: str = module.params["directory"]
        self.root = os.path.join(self.directory, "root")
        self.base_file = os.path.join(self.directory, "base")
        self.log = os.path.join(self.directory, "console.log")

    def fail(self, message: str) -> None:
        """End the module with a message and the last lines that the machine's console printed."""
        lines: list[str] = []
        if os.path.exists(self.log):
            with open(self.log, encoding="utf-8", errors="replace") as stream:
                lines = stream.read().splitlines()[-20:]
        self.module.fail_json(msg=f"{self.name}: {message}", console=lines)

    def run(self, *command: str) -> str:
        """Run a command; what it prints."""
        code, out, err = self.module.run_command(list(command))
        if code != 0:
            self.fail(f"'{' '.join(command)}' failed: {err.strip() or out.strip()}")
        return str(out)

    def wait(self, condition: Any, problem: str) -> None:
        """Wait until ``condition()`` is true, or fail with ``problem`` at the deadline."""
        deadline = time.monotonic() + self.module.params["timeout"]
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"{problem} within {self.module.params['timeout']} seconds")
            time.sleep(0.1)

    def mount(self) -> None:
        """Lay the machine's files over the base tree."""
        upper, work = (os.path.join(self.directory, part) for part in ("upper", "work"))
        for path in (upper, work, self.root):
            os.makedirs(path, mode=0o755, exist_ok=True)
        os.chmod(self.directory, 0o700)
        if not os.path.exists(self.base_file):
            temporary = self.base_file + ".new"
            with open(temporary, "w", encoding="utf-8") as stream:
                stream.write(self.module.params["base"])
            os.replace(temporary, self.base_file)
        if os.path.ismount(self.root):
            return
        with open(self.base_file, encoding="utf-8") as stream:
            base = stream.read()
        for layer in base.split(":"):
            if not os.path.isdir(layer):
                self.fail(f"{layer}, which it was made from, is gone: remove the machine, or bring the folder back")
        options = f"lowerdir={base},upperdir={upper},workdir={work}"
        self.run("mount", "-t", "overlay", "overlay", "-o", options, self.root)

    def unmount(self) -> None:
        """Undo ``mount``, unless a run that was cut off does so at this moment."""
        if os.path.ismount(self.root):
            _code, _out, error = self.module.run_command(["umount", self.root])
            if os.path.ismount(self.root):
                self.fail(f"it can't be unmounted: {error.strip()}")

    def differing(self) -> dict[str, str]:
        """Those of ``settings`` that the machine's files do not have yet."""
        wanted = settings(self.module.params)
        return {path: content for path, content in wanted.items() if beneath.read(self.root, path) != content}

    def prepare(self, files: dict[str, str]) -> None:
        """Write settings, and what only a new machine needs: its name servers and its ssh host key."""
        for path, content in files.items():
            beneath.write(self.root, path, content)
        for folder in ("root", "root/.ssh"):
            beneath.protect(self.root, folder)
        if not self.host_key():
            servers = "".join(f"nameserver {server}\n" for server in self.module.params["nameservers"])
            beneath.write(self.root, "etc/resolv.conf", servers)
            self.make_host_key()

    def make_host_key(self) -> None:
        """Make the machine's ssh host key, on this computer's side of it: nothing in the machine is run or followed."""
        with tempfile.TemporaryDirectory(dir=self.directory) as folder:
            key = os.path.join(folder, "key")
            self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.module.params["hostname"], "-f", key)
            # `host_key` finds a pair only when the last file is there, however far a run came that was cut off.
            beneath.write(self.root, f"{HOST_KEY}.pub", "")
            for suffix, mode in (("", 0o600), (".pub", 0o644)):
                with open(key + suffix, encoding="ascii") as stream:
                    beneath.write(self.root, HOST_KEY + suffix, stream.read(), mode)

    def start(self) -> Callable[[], bool]:
        """Boot the machine; returns what tells whether that has ended, which a reboot does not."""
        command = [
            *("systemd-nspawn", "--quiet", "--boot", "--keep-unit", "--register=no", f"--machine={self.name}"),
            *(f"--directory={self.root}", f"--network-bridge={self.module.params['bridge']}"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe"),
            f"--kill-signal={POWEROFF}",
        ]
        if os.path.isdir("/run/systemd/system"):
            self.module.run_command(["systemctl", "reset-failed", self.unit])
            self.run(
                *("systemd-run", "--quiet", "--collect", f"--unit={self.unit}", "--property=Delegate=yes"),
                *("--property=KillMode=mixed", f"--property=StandardOutput=append:{self.log}"),
                f"--property=MemoryMax={MEMORY}",
                *(f"--property=RestartForceExitStatus={REBOOT}", f"--property=SuccessExitStatus={REBOOT}"),
                *command,
            )
            return lambda: self.module.run_command(["systemctl", "is-active", "--quiet", self.unit])[0] != 0
        groups = " ".join(f"'{place}/{self.unit}'" for place in hierarchies())
        script = LOOP.format(groups=groups, memory=MEMORY, reboot=REBOOT)
        with open(self.log, "ab") as log:
            process = subprocess.Popen(  # pylint: disable=consider-using-with  # it outlives this module
                ["/bin/sh", "-c", script, self.unit, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        return lambda: process.poll() is not None

    def stop(self, grace: float) -> None:
        """Power the machine off; by force after ``grace`` seconds."""
        pid = nspawn_pid(self.root)
        if pid is not None:
            # What SIGTERM lets nspawn do; told so twice, as by a run that follows one that was cut off, it would kill.
            for child in children(pid):
                end(child, POWEROFF)
            deadline = time.monotonic() + grace
            while nspawn_pid(self.root) == pid and time.monotonic() < deadline:
                time.sleep(0.1)
            if nspawn_pid(self.root) == pid:
                for child in children(pid):
                    end(child, signal.SIGKILL)
            self.wait(lambda: nspawn_pid(self.root) is None, "it did not end")
        self.unmount()

    def remove(self) -> None:
        """Remove the machine's files and cgroups."""
        shutil.rmtree(self.directory)
        if of_the_same_name(self.name, self.root):
            return
        for place in hierarchies():
            top = os.path.join(place, self.unit)
            for folder, _names, _files in os.walk(top, topdown=False):
                os.rmdir(folder)

    def host_key(self) -> str:
        """The machine's public host key; empty where it has no pair of them."""
        words = (beneath.read(self.root, f"{HOST_KEY}.pub") or "").split()
        return " ".join(words[:2]) if len(words) > 1 and beneath.read(self.root, HOST_KEY) else ""


def started(machine: Machine) -> bool:
    """Bring the machine up; whether anything had to change."""
    module = machine.module
    running = nspawn_pid(machine.root) is not None
    if not running and (other := of_the_same_name(machine.name, machine.root)):
        machine.fail(f"a machine of this name runs already, from {other}: use another LAB_NAME, or another name for it")
    if module.check_mode and not os.path.ismount(machine.root):
        return True
    machine.mount()
    files = machine.differing()
    differs = bool(files) or not machine.host_key()
    changed = not running or differs
    if module.check_mode:
        return changed
    if running and differs:
        machine.stop(module.params["timeout"])
        machine.mount()
        running = False
    ended = None
    if not running:
        machine.prepare(files)
        ended = machine.start()
    address = str(ipaddress.ip_interface(module.params["address"]).ip)

    def up() -> bool:
        if answers_ssh(address):
            return True
        if ended and ended():
            machine.fail("it ended while it started")
        return False

    machine.wait(up, f"sshd at {address} did not answer")
    return changed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
            "directory": {"type": "path", "required": True},
            "base": {"type": "str"},
            "hostname": {"type": "str"},
            "bridge": {"type": "str"},
            "address": {"type": "str"},
            "gateway": {"type": "str"},
            "nameservers": {"type": "list", "elements": "str", "default": []},
            "authorized_key": {"type": "str", "no_log": False},
            "timeout": {"type": "int", "default": 90},
        },
        required_if=[("state", "started", ["base", "hostname", "bridge", "address", "gateway"])],
        supports_check_mode=True,
    )
    machine = Machine(module)
    state: str = module.params["state"]
    if state == "started":
        module.get_bin_path("systemd-nspawn", required=True)
        changed = started(machine)
        key = machine.host_key() if os.path.ismount(machine.root) else ""
        module.exit_json(changed=changed, host_key=key)
    running = nspawn_pid(machine.root) is not None
    exists = os.path.isdir(machine.directory)
    changed = running or os.path.ismount(machine.root) or (state == "absent" and exists)
    if changed and not module.check_mode:
        # What is removed need not end in order.
        machine.stop(0 if state == "absent" else module.params["timeout"])
        if state == "absent":
            machine.remove()
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
