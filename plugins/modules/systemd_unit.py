#!/usr/bin/python
"""Enable and run a systemd unit, and restart it when its files are newer than its process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_unit
short_description: Run a systemd unit that is never older than its files
description:
  - Enables and starts a unit. Restarts it when a file that it reads at start (or the unit's own definition) has
    changed since it started, and reloads it when a file that it reads at reload has changed since.
  - The comparison is between times on the host, so it is also right after a run that was cut off between
    writing a file and restarting the unit; a handler's notification would be lost there.
    No module of ansible.builtin compares these.
options:
  name:
    description: Name of the unit.
    type: str
    required: true
  restart_on:
    description: Paths or globs of files that the unit reads only when it starts.
    type: list
    elements: str
    default: []
  reload_on:
    description: Paths or globs of files that the unit reads again when it is reloaded.
    type: list
    elements: str
    default: []
author: HashiStack Lab
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Run Consul with its current configuration
  systemd_unit:
    name: consul.service
    restart_on: [/etc/consul.d/consul.hcl]
    reload_on: [/etc/consul.d/*.json]
"""

RETURN = r"""
action:
  description: What was done, or would be in check mode.
  type: str
  returned: always
  sample: none, start, restart or reload
reason:
  description: Why, in a sentence; empty where nothing was done.
  type: str
  returned: always
stale:
  description: Whether a running unit was older than its files.
  type: bool
  returned: always
"""

import glob
import os
import subprocess
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = (
    "ActiveState",
    "DropInPaths",
    "FragmentPath",
    "InactiveExitTimestamp",
    "LoadState",
    "NeedDaemonReload",
    "StateChangeTimestamp",
    "UnitFileState",
)


class Decision(NamedTuple):
    """What to do with a unit: ``none``, ``start``, ``restart`` or ``reload``, and why."""

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
    if properties["ActiveState"] not in ("active", "reloading", "activating"):
        return Decision("start", f"the unit was {properties['ActiveState'] or 'not loaded'}")
    started = parse_timestamp(properties["InactiveExitTimestamp"])
    own_files = [path for path in (properties["FragmentPath"], *properties["DropInPaths"].split()) if path]
    path, changed = newest(restart_on + own_files)
    if changed > started:
        return Decision("restart", f"{path} has changed since the unit started")
    path, changed = newest(reload_on)
    if changed > max(started, parse_timestamp(properties["StateChangeTimestamp"])):
        return Decision("reload", f"{path} has changed since the unit read it")
    return Decision("none", "")


def systemctl(module: AnsibleModule, *arguments: str) -> str:
    """Run systemctl; on failure end the module with the last lines of the unit's journal."""
    code, out, err = module.run_command(["systemctl", *arguments], environ_update={"TZ": "UTC"})
    if code != 0:
        unit = module.params["name"]
        journal = subprocess.run(
            ["journalctl", "--unit", unit, "--lines", "20", "--no-pager", "--output", "cat"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        module.fail_json(
            msg=f"'systemctl {' '.join(arguments)}' failed: {err.strip() or out.strip()}", journal=journal.splitlines()
        )
    return str(out)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "restart_on": {"type": "list", "elements": "str", "default": []},
            "reload_on": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    name: str = module.params["name"]

    def show() -> dict[str, str]:
        return parse_properties(
            systemctl(module, "show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", name)
        )

    properties = show()
    if properties["LoadState"] == "not-found" and not module.check_mode:
        # The file may be new: systemd learns of it at the next reload.
        systemctl(module, "daemon-reload")
        properties = show()
    if properties["LoadState"] == "not-found":
        if not module.check_mode:
            module.fail_json(msg=f"The unit {name} does not exist on this host.")
        module.exit_json(changed=True, action="start", reason="the unit does not exist yet", stale=False)

    decision = decide(properties, module.params["restart_on"], module.params["reload_on"])
    enable = properties["UnitFileState"] not in ("enabled", "static", "enabled-runtime", "indirect", "generated")
    result: dict[str, Any] = {
        "changed": enable or decision.action != "none",
        "action": decision.action,
        "reason": decision.reason,
        "stale": decision.action in ("restart", "reload"),
    }
    if not module.check_mode:
        if properties["NeedDaemonReload"] == "yes" or decision.action in ("start", "restart"):
            systemctl(module, "daemon-reload")
        if enable:
            systemctl(module, "enable", name)
        if decision.action != "none":
            systemctl(module, decision.action, name)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
