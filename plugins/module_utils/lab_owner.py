"""Whose a lab is, of which kind, and who works on it now: what every command asks before it touches anything.

A clone keeps its labs in ``.lab/NAME``. There ``lab.json`` says the lab's id and its kind, and ``lock`` which process
works on it. The machines' side says whose they are (`Owner`): for containers in ``owner.json`` beside them, for virtual
machines in libvirt. Each refusal is a sentence that says what to do; nothing is touched before it.

Used by modules and action plugins of Ansible and by tools/.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import ipaddress
import json
import os
import pwd
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

LAB_FILE = "lab.json"
LOCK_FILE = "lock"
OWNER_FILE = "owner.json"
# Kind of a lab (its inventory's lab_machines) to the commands that make and remove its machines.
COMMANDS = {
    "containers": ("make up", "make down"),
    "vagrant": ("make vagrant-up", "make vm-down"),
    "terraform": ("make terraform-up", "make vm-down"),
}
OTHER = "other"
"""Kind of machines that this project has not made."""
COMMAND_SHOWN = 120
"""How many characters of a command line a refusal shows."""


class RefusedError(Exception):
    """Why nothing may be touched; its text is a sentence with the remedy."""


class Owner(NamedTuple):
    """Who has made a lab: a clone's folder, its user, and the id that stands in its ``lab.json``."""

    folder: str
    user: str
    id: str

    def as_json(self) -> str:
        """As it is kept with the machines."""
        return json.dumps(self._asdict(), sort_keys=True)


UNKNOWN = Owner("", "", "")
"""Whose machines are that were made before machines said whose they are."""


def parse_owner(text: str) -> Owner | None:
    """What ``as_json`` has written; None for anything else."""
    try:
        values = json.loads(text)
        return Owner(str(values["folder"]), str(values["user"]), str(values["id"]))
    except (ValueError, TypeError, KeyError):
        return None


def read_owner(folder: str) -> Owner | None:
    """Whose the containers in ``folder`` say that they are."""
    try:
        with open(os.path.join(folder, OWNER_FILE), encoding="utf-8") as stream:
            return parse_owner(stream.read())
    except FileNotFoundError:
        return None


def own_lab(folder: str, purpose: str) -> str:
    """The name of a lab that the clone in ``folder`` makes for itself, such as its tests': no other clone's has it.

    >>> own_lab("/home/ann/hashistack-lab", "test")
    'kan-test'
    """
    number = int.from_bytes(hashlib.sha256(os.path.realpath(folder).encode()).digest()[:8], "big")
    letters, more = "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz0123456789"
    tag = letters[number % 26] + more[number // 26 % 36] + more[number // 26 // 36 % 36]
    return f"{tag}-{purpose}"


def read_lab(directory: str) -> dict[str, str]:
    """The id and kind of the lab that ``.lab/NAME`` keeps; empty where it does not say."""
    try:
        with open(os.path.join(directory, LAB_FILE), encoding="utf-8") as stream:
            values = json.load(stream)
        return {"id": str(values["id"]), "kind": str(values["kind"])}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}


def settle(directory: str, kind: str, lab_id: str = "") -> str:
    """Make ``.lab/NAME`` and its ``lab.json``, unless they are there; the lab's id.

    Args:
        directory: the lab's folder.
        kind: of the lab's machines.
        lab_id: the id of a lab that stands, for a clone that has its keys but no ``lab.json``.

    """
    present = read_lab(directory)
    if present and (not lab_id or present["id"] == lab_id):
        return present["id"]
    make_private(directory)
    chosen = lab_id or str(uuid.uuid4())
    # Mitogen brings a module only what itself imports, so that module_utils.files is not used here.
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(json.dumps({"id": chosen, "kind": kind}, sort_keys=True) + "\n")
    os.replace(temporary, os.path.join(directory, LAB_FILE))
    return chosen


def make_private(directory: str) -> None:
    """Make ``.lab/NAME``, and ``.lab`` too, for the user alone."""
    for folder in (os.path.dirname(directory), directory):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def this_clone(project: str, directory: str) -> Owner:
    """The clone in which this runs, as the owner of the lab ``directory``; without an id where it keeps none."""
    return Owner(os.path.realpath(project), user_name(), read_lab(directory).get("id", ""))


def user_name() -> str:
    """The user whose rights this process has."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def kinds(directory: str) -> tuple[str, ...]:
    """What the lab that ``.lab/NAME`` keeps may be; nothing where there is none, or where it does not say.

    A lab of before ``lab.json`` is known by the names of its pinned host keys: containers are pinned by their names,
    virtual machines by their addresses.
    """
    if lab := read_lab(directory):
        return (lab["kind"],)
    try:
        names = os.listdir(os.path.join(directory, "ssh"))
    except OSError:
        return ()
    pinned = [name.removeprefix("known_hosts.") for name in names if name.startswith("known_hosts.")]
    if not pinned:
        return ()
    try:
        ipaddress.ip_address(pinned[0])
    except ValueError:
        return ("containers",)
    return ("vagrant", "terraform")


def check_kind(name: str, directory: str, kind: str) -> None:
    """Refuse a command for machines of one kind where ``.lab/NAME`` keeps the keys of another's."""
    present = kinds(directory)
    if present and kind not in present:
        _, down = COMMANDS.get(present[0], ("", ""))
        own = f"; 'LAB_NAME={name} {down}' removes that lab" if down else ""
        another = COMMANDS.get(kind, ("ansible-playbook site.yml",))[0]
        raise RefusedError(
            f"Lab '{name}' of this clone is of kind {' or '.join(present)}, and this command is for kind {kind}: use "
            f"another name, as in 'LAB_NAME=other {another}' ('unset LAB_NAME' if .lab/env has set it){own}."
        )


def check_down(name: str, kind: str) -> None:
    """Refuse `make down` for machines that it does not remove: their keys would go, and they would stay."""
    if kind in ("vagrant", "terraform"):
        down = COMMANDS[kind][1]
        raise RefusedError(f"'make down' removes containers: 'LAB_NAME={name} {down}' removes machines of kind {kind}.")
    if kind == OTHER:
        raise RefusedError(
            "'make down' removes machines that this computer made, not those of an inventory of your own: take the lab "
            "off them by playbooks/uninstall.yml (docs/your-machines.md)."
        )


def check_owner(
    name: str,
    kind: str,
    owner: Owner | None,
    clone: Owner,
    *,
    keys: bool = False,
    adopt: bool = False,
    removing: bool = False,
) -> None:
    """Refuse a command of ``clone`` on a lab that is another's.

    Args:
        name: the lab's name.
        kind: of its machines.
        owner: whose the machines are; None where there are none.
        clone: `this_clone`.
        keys: the clone has what opens the machines without the id (the ssh key that they let in).
        adopt: the user says that the lab is this clone's from now on (ADOPT=1).
        removing: the command removes the lab, for which nobody needs its keys.

    """
    if owner is None:
        return
    keys = keys or bool(owner.id and owner.id == clone.id)
    here = owner.folder == clone.folder or (keys and owner == UNKNOWN)
    up, down = COMMANDS[kind]
    if (here or adopt) and (keys or (removing and (here or gone(owner, name)))):
        return
    if here:
        raise RefusedError(
            f"Lab '{name}' is this clone's, but its keys are not in .lab/{name}: bring that folder back from your "
            f"copy, or remove the lab with 'LAB_NAME={name} {down}'."
        )
    whose = f"the clone in {owner.folder} (user {owner.user})" if owner.folder else "the clone whose key it lets in"
    text = f"Lab '{name}' belongs to {whose}: work there, or use another name here, as in 'LAB_NAME=other {up}'"
    if keys:
        text += f"; if this is that clone, moved or restored, 'LAB_NAME={name} {up} ADOPT=1' makes the lab its own"
    elif gone(owner, name):
        lost = "its keys are gone from there" if owner.folder else "if its keys are nowhere any more"
        text += f"; {lost}, 'LAB_NAME={name} {down} ADOPT=1' removes it"
    raise RefusedError(text + ".")


def gone(owner: Owner, name: str) -> bool:
    """Whether the owner no longer has the lab's folder. What this user may not look into is not gone."""
    if not owner.folder:
        return True
    try:
        os.stat(os.path.join(owner.folder, ".lab", name))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


class Process(NamedTuple):
    """A process as no other one is: its PID, when it started (clock ticks since boot), and of which boot."""

    pid: int
    started: int
    boot: str


def process(pid: int) -> Process | None:
    """The process ``pid``; None where there is none any more."""
    fields = _stat(pid)
    if not fields or fields[0] in "ZX":
        return None
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return Process(pid, int(fields[19]), stream.read().strip())


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, ... (proc(5)); empty where there is no process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return []


def _command(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as stream:
            return stream.read().rstrip("\0").split("\0")
    except OSError:
        return []


def ancestors(pid: int) -> Iterator[int]:
    """The process and those that it comes from, the nearest first."""
    while pid > 0 and (fields := _stat(pid)):
        yield pid
        pid = int(fields[1])


def whole(pid: int) -> int:
    """The process that a user knows: Ansible's workers are copies of it, with its command line."""
    command = _command(pid)
    for parent in ancestors(pid):
        if _command(parent) != command:
            break
        pid = parent
    return pid


def hold(name: str, directory: str) -> None:
    """Note that this process, or what it was forked from, works on the lab ``directory`` (which exists) till its end.

    Holding again is no change, and so is holding what a process holds that this one comes from. What a process held
    that has ended, however it ended, is taken over.

    Raises:
        RefusedError: another process works on it.

    """
    path = os.path.join(directory, LOCK_FILE)
    while True:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not os.fstat(stream.fileno()).st_nlink:
                continue  # Removed with its lab meanwhile.
            holder = _parse_lock(stream.read())
            alive = holder and process(holder["process"].pid) == holder["process"]
            if alive and holder["process"].pid in ancestors(os.getpid()):
                return
            if alive:
                raise RefusedError(
                    f"Lab '{name}' is in use since {holder['since']} by process {holder['process'].pid} of user "
                    f"{holder['user']} ({holder['command']}): wait until it has ended, or end it with "
                    f"'kill {holder['process'].pid}'."
                )
            pid = whole(os.getpid())
            values = {
                "process": (process(pid) or Process(pid, 0, ""))._asdict(),
                "command": _short(_command(pid)),
                "user": user_name(),
                "since": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            }
            stream.seek(0)
            stream.truncate()
            stream.write(json.dumps(values, sort_keys=True) + "\n")
            return


def _parse_lock(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
        found = {key: str(values[key]) for key in ("command", "user", "since")}
        return {**found, "process": Process(**values["process"])}
    except (ValueError, TypeError, KeyError):
        return {}


def _short(command: list[str]) -> str:
    """A command line for people: no interpreter, no folders before the program."""
    words = command[1:] if len(command) > 1 and os.path.basename(command[0]).startswith("python") else command
    text = " ".join(" ".join([os.path.basename(words[0]), *words[1:]]).split()) if words else "unknown"
    return text if len(text) <= COMMAND_SHOWN else f"{text[:COMMAND_SHOWN]} ..."
