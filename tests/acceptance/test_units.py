"""What the lab's own units may do on their machines."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

from tests.running import Running

# systemd's own measure of what a unit could do, from 0 (best) to 10.
EXPOSURE = 2.0
# Units and drop-ins that somebody put there; the second is of the virtual machines' image.
FOUND = r"find /etc/systemd/system -maxdepth 2 -type f \( -name '*.service' -o -path '*.service.d/*.conf' \)"
FOREIGN = {"ssh-host-keys.service"}


def present(running: Running, name: str) -> set[str]:
    """The units of a machine that the lab made or changed; of a template the one that runs."""
    found = {re.sub(r"\.d/.*$", "", path).rpartition("/")[2] for path in running.sh(name, FOUND).split()}
    for template in [unit for unit in found if "@." in unit]:
        pattern = template.replace("@.", "@*.")
        found.remove(template)
        found.update(running.sh(name, f"systemctl list-units --plain --no-legend '{pattern}' | cut -d' ' -f1").split())
    return found - FOREIGN


def test_the_lab_has_these_units_and_no_others(running: Running) -> None:
    for machine in running.lab.machines:
        found = present(running, machine.name)
        wanted = [f"{unit}.service" for entry in running.lab.services_of(machine).values() for unit in entry["units"]]
        assert [unit for unit in found if not any(fnmatch.fnmatch(unit, pattern) for pattern in wanted)] == []
        assert [pattern for pattern in wanted if not fnmatch.filter(found, pattern)] == []


def test_each_unit_may_do_little(running: Running) -> None:
    """Its exposure is low, it leaves no core dump with secrets, and it cannot take all of the machine's memory."""
    wrong = []
    for machine in running.lab.machines:
        for unit in sorted(present(running, machine.name)):
            rated = running.sh(machine.name, f"systemd-analyze security --no-pager {unit} | tail -n 1")
            value = re.search(r": (\d+\.\d+)", rated)
            shown = running.sh(machine.name, f"systemctl show --property LimitCORE,MemoryMax {unit}")
            limits = dict(line.split("=", 1) for line in shown.split())
            if not value or float(value[1]) > EXPOSURE:
                wrong.append(f"{machine.name}: {rated.strip()}")
            if limits["LimitCORE"] != "0":
                wrong.append(f"{machine.name}: {unit} may leave a core dump")
            if limits["MemoryMax"] == "infinity":
                wrong.append(f"{machine.name}: {unit} may take all memory")
    assert not wrong, "\n".join(wrong)


def test_a_container_cannot_take_all_of_the_computers_memory(running: Running) -> None:
    mounted = [Path("/sys/fs/cgroup", name) for name in ("memory/memory.limit_in_bytes", "cgroup.controllers")]
    if running.lab.kind != "containers" or not any(path.exists() for path in mounted):
        pytest.skip("no containers, or no cgroup controller for memory on this computer")
    for machine in running.lab.machines:
        unit = f"hashistack-{running.lab.name}-{machine.name}.service"
        limits = [
            path.read_text(encoding="ascii").strip()
            for folder in ("", "memory/", "system.slice/")
            for name in ("memory.max", "memory.limit_in_bytes")
            for path in Path("/sys/fs/cgroup").glob(f"{folder}{unit}/{name}")
        ]
        assert limits == [str(1 << 30)], machine.name
