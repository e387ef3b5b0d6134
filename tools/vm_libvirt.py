"""libvirt on this computer: started where nothing else does, asked over virsh, and left as it was found."""

import grp
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from plugins.module_utils.lab_owner import UNKNOWN, Owner, parse_owner
from tools.preparing.running import PrepareError, as_root, run, say

URI = "qemu:///system"
SOCKETS = {"virtlogd": Path("/run/libvirt/virtlogd-sock"), "libvirtd": Path("/run/libvirt/libvirt-sock")}
"""The daemons in the order in which they start, and where each listens."""
PIDS = Path("/run/hashistack-lab")
"""Where the pid files of daemons are that were started here."""
KVM = Path("/dev/kvm")
KVM_GROUP, KVM_MODE = "kvm", 0o660
"""Whose /dev/kvm must be, and what these may. libvirt asks QEMU for its abilities past all permissions, then sees that
QEMU's user may not open the file, takes its knowledge as outdated, and asks anew: at each call, for 4 to 8 s."""
START_SECONDS = 30
POOLS = Path("/var/lib/libvirt/hashistack-lab")
"""Folder of the labs' disks; its subfolders are the labs."""
OF_VAGRANT = re.compile(r"Source: (.+)/Vagrantfile")
"""How vagrant-libvirt describes a machine that says nothing else of itself."""


def virsh(*arguments: str) -> str:
    """What virsh prints; fails with its message as `PrepareError`."""
    done = _virsh(arguments)
    if done.returncode:
        raise PrepareError(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _virsh(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = ["virsh", "--connect", URI, "--quiet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})


def answers() -> bool:
    """Whether libvirt answers this user."""
    return shutil.which("virsh") is not None and _virsh(["version"]).returncode == 0


def kvm_is_for_its_group(device: os.stat_result) -> bool:
    """Whether QEMU's user, who is in the group, may open /dev/kvm."""
    return device.st_gid == grp.getgrnam(KVM_GROUP).gr_gid and device.st_mode & KVM_MODE == KVM_MODE


def start() -> None:
    """Start libvirt unless it answers: by systemd where that is PID 1, else by hand with our own pid files."""
    if answers():
        return
    if Path("/run/systemd/system").is_dir():
        say("libvirt", "starting libvirtd.service")
        run("libvirt", as_root(["systemctl", "start", "libvirtd.service"]))
    else:
        run("libvirt", as_root(["mkdir", "-p", str(PIDS), "/run/libvirt"]))
        if KVM.exists() and not kvm_is_for_its_group(KVM.stat()):
            say("libvirt", f"giving {KVM} to the group {KVM_GROUP}, as udev does where it runs")
            run("libvirt", as_root(["chgrp", KVM_GROUP, str(KVM)]))
            run("libvirt", as_root(["chmod", f"{KVM_MODE:o}", str(KVM)]))
        for name, socket in SOCKETS.items():
            if _runs(name):
                continue
            say("libvirt", f"starting {name} by hand, since no systemd runs here; 'make vm-down' stops it")
            run("libvirt", as_root(["rm", "-f", str(socket)]))
            run("libvirt", as_root([f"/usr/sbin/{name}", "--daemon", "--pid-file", str(PIDS / f"{name}.pid")]))
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if time.monotonic() > deadline:
            raise PrepareError(
                f"libvirt does not answer at {URI}: {_virsh(['version']).stderr.strip()} "
                "See its log, and whether you are in the group libvirt ('sudo adduser $USER libvirt', log in anew)."
            )
        time.sleep(0.2)


def _runs(name: str) -> bool:
    """Whether the daemon runs, whoever started it."""
    for pid in (PIDS / f"{name}.pid", Path(f"/run/{name}.pid")):
        try:
            if Path(f"/proc/{int(pid.read_text())}/comm").read_text().strip() == name:
                return True
        except (OSError, ValueError):
            continue
    return False


def stop() -> None:
    """Stop the daemons that `start` has started by hand, when no machine runs any more."""
    started = [name for name in reversed(SOCKETS) if (PIDS / f"{name}.pid").exists()]
    if not started:
        return
    if answers() and virsh("list", "--name").split():
        say("libvirt", "stays, for other machines than this lab's run on it")
        return
    # Networks that it started for itself, such as 'default', end with it.
    for network in virsh("net-list", "--name").split() if answers() else []:
        virsh("net-destroy", network)
    for name in started:
        say("libvirt", f"stopping {name}")
        run("libvirt", as_root(["pkill", "--pidfile", str(PIDS / f"{name}.pid"), "--exact", name]))
        run("libvirt", as_root(["rm", "-f", str(PIDS / f"{name}.pid")]))
    run("libvirt", as_root(["rmdir", str(PIDS)]))


def make_pool(name: str) -> None:
    """Define and start the lab's own pool of disks, unless it is there."""
    pool = f"hl-{name}"
    if pool not in virsh("pool-list", "--all", "--name").split():
        virsh("pool-define-as", pool, "dir", "--target", str(POOLS / name))
    start_pool(pool)


def start_pool(pool: str, ask: Callable[..., str] = virsh) -> None:
    """Start a pool of disks, unless it runs. Its folder is made: a removal that was interrupted may have taken it."""
    if pool not in ask("pool-list", "--name").split():
        ask("pool-build", pool)
        ask("pool-start", pool)


def domains(name: str, ask: Callable[..., str] = virsh) -> list[str]:
    """The lab's domains: by their name, and by their network, since there may be a lab NAME-MORE."""
    named = [domain for domain in ask("list", "--all", "--name").split() if domain.startswith(f"hl-{name}-")]
    own = {f"hl-{name}", f"hl-{name}-mgmt"}
    # One that Vagrant is just making has no network yet.
    return [
        domain
        for domain in named
        if all(word in own for word in ask("domiflist", domain).split() if word.startswith("hl-"))
    ]


def owner(name: str, ask: Callable[..., str] = virsh) -> Owner | None:
    """Whose the lab's domains say that they are; None without any, UNKNOWN where they do not say."""
    for domain in domains(name, ask):
        text = ask("desc", domain).strip()
        made_by_vagrant = OF_VAGRANT.fullmatch(text)
        return parse_owner(text) or (Owner(made_by_vagrant.group(1), "unknown", "") if made_by_vagrant else UNKNOWN)
    return None


def mark(name: str, owner: Owner, ask: Callable[..., str] = virsh) -> None:
    """Let the lab's domains say whose they are."""
    for domain in domains(name, ask):
        if parse_owner(ask("desc", domain)) != owner:
            running = ["--live"] if domain in ask("list", "--name").split() else []
            ask("desc", domain, "--config", *running, "--new-desc", owner.as_json())


def name_of(identifier: str) -> str:
    """The name of the domain with this UUID; empty where there is none."""
    done = _virsh(["domname", identifier])
    return done.stdout.strip() if done.returncode == 0 else ""


def clean(name: str, ask: Callable[..., str] = virsh) -> list[str]:
    """Remove every domain, network and pool of the lab `name`, and nothing else; what was removed."""
    removed = []
    for domain in domains(name, ask):
        if domain in ask("list", "--name").split():
            ask("destroy", domain)
        ask("undefine", domain, "--nvram")
        removed.append(f"domain {domain}")
    for network in ask("net-list", "--all", "--name").split():
        if network in (f"hl-{name}", f"hl-{name}-mgmt"):
            if network in ask("net-list", "--name").split():
                ask("net-destroy", network)
            ask("net-undefine", network)
            removed.append(f"network {network}")
    for pool in ask("pool-list", "--all", "--name").split():
        if pool == f"hl-{name}":
            start_pool(pool, ask)
            # One volume a line: its name, then its path.
            for line in ask("vol-list", pool).splitlines():
                if line.split():
                    ask("vol-delete", line.split()[0], "--pool", pool)
            ask("pool-destroy", pool)
            ask("pool-undefine", pool)
            removed.append(f"pool {pool}")
    return removed


def remove_folder(name: str) -> None:
    """Remove the folder of the lab's disks."""
    folder = POOLS / name
    if folder.exists():
        run("libvirt", as_root(["rm", "-rf", "--one-file-system", str(folder)]))
    if POOLS.exists() and not any(POOLS.iterdir()):
        run("libvirt", as_root(["rmdir", str(POOLS)]))


def memory_available_mib() -> int:
    """MemAvailable of this computer in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0
