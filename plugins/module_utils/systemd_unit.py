"""Run a systemd unit that is never older than its files. The module systemd_unit says what that means."""

from __future__ import annotations

import glob
import os
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = (
    "ActiveEnterTimestamp",
    "ActiveState",
    "DropInPaths",
    "FragmentPath",
    "InactiveExitTimestamp",
    "LoadState",
    "NRestarts",
    "NeedDaemonReload",
    "Result",
    "StateChangeTimestamp",
    "SubState",
    "Type",
    "UnitFileState",
)
# Seconds. How long a unit must have been up, after systemd has started it again by itself, and where systemd can't tell
# when it is ready.
UP_AFTER_CRASH = 10.0
UP_AFTER_START = 1.0
# So many crashes while it is watched are a loop.
CRASHES = 3
EVERY = 0.2
# Seconds for a unit that is starting.
PATIENCE = 60
ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "restart_on": {"type": "list", "elements": "str", "default": []},
    "reload_on": {"type": "list", "elements": "str", "default": []},
    "restart": {"type": "bool", "default": True},
}
"""The options of a unit, for an AnsibleModule."""


class Decision(NamedTuple):
    """What to do with a unit: ``none``, ``start``, ``restart`` or ``reload``, and why.

    A unit that is not up yet is started (anew), since it serves nobody who would have to be asked first.
    """

    action: str
    reason: str


def parse_properties(text: str) -> dict[str, str]:
    """Turn the ``Name=value`` lines of ``systemctl show`` into a dictionary."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_timestamp(value: str) -> float:
    """Seconds since the epoch of ``Mon 2026-01-05 10:11:12.345678 UTC``; 0.0 for an empty value."""
    if not value or value == "n/a":
        return 0.0
    day_and_time = " ".join(value.split()[1:3])
    form = "%Y-%m-%d %H:%M:%S.%f" if "." in day_and_time else "%Y-%m-%d %H:%M:%S"
    return datetime.strptime(day_and_time, form).replace(tzinfo=UTC).timestamp()


def newest(patterns: list[str]) -> tuple[str, float]:
    """The path of the file last changed among those that the globs match, and its time; ``("", 0.0)`` for none."""
    paths = {path for pattern in patterns for path in glob.glob(pattern)}
    times = [(max(os.stat(path).st_mtime, os.lstat(path).st_mtime), path) for path in paths]
    if not times:
        return "", 0.0
    when, path = max(times)
    return path, when


def decide(properties: dict[str, str], restart_on: list[str], reload_on: list[str]) -> Decision:
    """Compare a unit's times with its files' times.

    A unit's start is its ``InactiveExitTimestamp``, taken before the process reads its files; its last reload shows
    in ``StateChangeTimestamp``.
    """
    state = properties["ActiveState"]
    if state not in ("active", "reloading", "activating"):
        return Decision("start", f"the unit was {state or 'not loaded'}")
    started = parse_timestamp(properties["InactiveExitTimestamp"])
    own_files = [path for path in (properties["FragmentPath"], *properties["DropInPaths"].split()) if path]
    path, changed = newest(restart_on + own_files)
    if changed > started:
        verb = "start" if state == "activating" else "restart"
        return Decision(verb, f"{path} has changed since the unit started")
    path = unread(properties, reload_on)
    if path:
        # What is not up can't be reloaded.
        verb = "start" if state == "activating" else "reload"
        return Decision(verb, f"{path} has changed since the unit read it")
    return Decision("none", "")


def unread(properties: dict[str, str], reload_on: list[str]) -> str:
    """The newest of the files that a reload would let the unit read, if it has not read that one yet."""
    path, changed = newest(reload_on)
    read = max(parse_timestamp(properties[name]) for name in ("InactiveExitTimestamp", "StateChangeTimestamp"))
    return path if changed > read else ""


def unsteady(properties: dict[str, str], now: float) -> str:
    """Why a unit can't be called up (yet); empty where it can."""
    state, restarts = properties["ActiveState"], int(properties.get("NRestarts") or 0)
    if state not in ("active", "reloading"):
        return f"it is {state} ({properties['SubState']}), its last result was {properties.get('Result') or 'none'}"
    since = now - parse_timestamp(properties["ActiveEnterTimestamp"])
    if restarts and since < UP_AFTER_CRASH:
        return f"systemd has started it again {restarts} times"
    if properties.get("Type") in ("simple", "exec") and since < UP_AFTER_START:
        return "it has only just started"
    return ""


def watch(module: AnsibleModule, name: str, show: Callable[[], dict[str, str]]) -> None:
    """Return once the unit is up and stays so; end the module with what it last said where it does not."""
    deadline = time.monotonic() + PATIENCE
    properties = show()
    crashes = int(properties.get("NRestarts") or 0) + CRASHES
    while problem := unsteady(properties, time.time()):
        loops = int(properties.get("NRestarts") or 0) >= crashes
        if loops or properties["ActiveState"] in ("failed", "inactive") or time.monotonic() > deadline:
            said = journal(f"_SYSTEMD_UNIT={name}", 1)
            last = f" The last that it said: {said[0].strip()}" if said else ""
            module.fail_json(msg=f"{name} does not stay up: {problem}.{last}", journal=journal(f"--unit={name}"))
        time.sleep(EVERY)
        properties = show()


def journal(match: str, lines: int = 20) -> list[str]:
    """The last lines of the journal that match: ``--unit=NAME``, or ``_SYSTEMD_UNIT=NAME`` for its own words only."""
    done = subprocess.run(
        ["journalctl", match, f"--lines={lines}", "--no-pager", "--output=cat"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


def systemctl(module: AnsibleModule, name: str, *arguments: str) -> str:
    """Run systemctl; on failure end the module with the last lines of the unit's journal."""
    # Links of a time before systemd, for packages that have a script of that time too, take a quarter of a second.
    environment = {"TZ": "UTC", "SYSTEMCTL_SKIP_SYSV": "1"}
    code, out, err = module.run_command(["systemctl", *arguments], environ_update=environment)
    if code != 0:
        module.fail_json(
            msg=f"'systemctl {' '.join(arguments)}' failed: {err.strip() or out.strip()}",
            journal=journal(f"--unit={name}"),
        )
    return str(out)


def run(module: AnsibleModule, unit: dict[str, Any]) -> tuple[bool, Decision]:
    """Enable and run a unit, by its options; whether that changed anything, and what was done or is left to do."""
    name: str = unit["name"]

    def show() -> dict[str, str]:
        asked = ("show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", name)
        return parse_properties(systemctl(module, name, *asked))

    properties = show()
    if properties["LoadState"] == "not-found" and not module.check_mode:
        # The file may be new: systemd learns of it at the next reload.
        systemctl(module, name, "daemon-reload")
        properties = show()
    if properties["LoadState"] == "not-found":
        if not module.check_mode:
            module.fail_json(msg=f"The unit {name} does not exist on this host.")
        return True, Decision("start", "the unit does not exist yet")

    decision = decide(properties, unit["restart_on"], unit["reload_on"])
    enable = properties["UnitFileState"] not in ("enabled", "static", "enabled-runtime", "indirect", "generated")
    action = decision.action
    if action == "restart" and not unit["restart"]:
        action = "reload" if unread(properties, unit["reload_on"]) else "none"
    if not module.check_mode:
        if enable:
            # Its own reload costs a tenth of a second, and one is due anyway.
            systemctl(module, name, "enable", "--no-reload", name)
        # Of a drop-in in a folder that is new, systemd does not say that it should read its files anew.
        if enable or properties["NeedDaemonReload"] == "yes" or action in ("start", "restart"):
            systemctl(module, name, "daemon-reload")
        if action != "none":
            systemctl(module, name, "reload" if action == "reload" else "restart", name)
        watch(module, name, show)
    return enable or action != "none", decision
