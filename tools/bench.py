"""`make bench`: how long the lab takes to come up, to be run again and to grow, and how much memory it uses.

A lab of its own is removed, made from nothing with the caches that `make prepare` has filled, run again, grown by one
backend, measured, and removed. Prints a table for docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from plugins.module_utils.lab_owner import own_lab
from tools.lab import ROOT, LabError, load

BIN = Path(sys.executable).parent
GROWTH = ROOT / "tests" / "growth.yml"
CONTAINERS = ROOT / "inventories" / "containers"
KIBIBYTES_PER_MEBIBYTE = 1024


class Measurement(NamedTuple):
    """A line of the table."""

    what: str
    value: str
    mark: str


def machine_size() -> str:
    """The controller in one line: processors, memory, kernel."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
    gibibytes = int(memory[1]) / KIBIBYTES_PER_MEBIBYTE**2 if memory else 0
    model = cpu[1].strip() if cpu else platform.machine()
    return f"{os.cpu_count()} processors ({model}), {gibibytes:.0f} GiB of memory, Linux {platform.release()}"


def descendants(root: int, parents: dict[int, int]) -> set[int]:
    """All processes below ``root``, itself included, from a map of each process to its parent."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    queue = [root]
    while queue:
        pid = queue.pop()
        if pid not in found:
            found.add(pid)
            queue.extend(children.get(pid, []))
    return found


def parse_parent(stat: str) -> int:
    """The parent's PID in a line of /proc/PID/stat; the name before it may hold spaces and brackets."""
    return int(stat.rpartition(")")[2].split()[1])


def parse_pss(rollup: str) -> int:
    """The proportional set size in a /proc/PID/smaps_rollup, in KiB."""
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) if found else 0


def memory_by_machine(lab_name: str) -> dict[str, float]:
    """Sum of PSS of all processes of each machine of a lab, in MiB; needs root."""
    parents: dict[int, int] = {}
    roots: dict[str, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = parse_parent((folder / "stat").read_text(encoding="utf-8", errors="replace"))
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if words[0].rpartition("/")[2] == "systemd-nspawn":
                for word in words:
                    if word.startswith(f"--machine={lab_name}-"):
                        roots[word.removeprefix(f"--machine={lab_name}-")] = int(folder.name)
    result = {}
    for name, root in sorted(roots.items()):
        total = 0
        for pid in descendants(root, parents):
            with contextlib.suppress(OSError):
                total += parse_pss(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
        result[name] = total / KIBIBYTES_PER_MEBIBYTE
    return result


def playbook(*arguments: str) -> tuple[float, str]:
    """Run a playbook; its seconds and what it printed.

    Raises:
        LabError: it failed.

    """
    command = [str(BIN / "ansible-playbook"), *arguments]
    print(f"$ {' '.join(arguments)}", file=sys.stderr, flush=True)
    start = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
    )
    seconds = time.monotonic() - start
    if done.returncode:
        raise LabError(f"{done.stdout[-4000:]}\nansible-playbook {' '.join(arguments)} failed.")
    print(f"  {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds, done.stdout


def changed(output: str) -> int:
    """How many tasks the recap of a run calls changed, on all hosts."""
    return sum(int(number) for number in re.findall(r"^\S+\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE))


def table(size: str, when: str, lines: Sequence[Measurement], memory: dict[str, float]) -> str:
    """The result in Markdown."""
    out = [f"Measured on {when}: {size}.", "", "| what | measured | mark |", "| --- | --- | --- |"]
    out += [f"| {line.what} | {line.value} | {line.mark} |" for line in lines]
    if memory:
        out += ["", "| machine | memory (PSS) |", "| --- | --- |"]
        out += [f"| {name} | {mebibytes:.0f} MiB |" for name, mebibytes in memory.items()]
    return "\n".join(out)


def measure(inventory: str) -> tuple[list[Measurement], dict[str, float]]:
    """Bring the lab up from nothing, again, and with one backend more."""
    lab = load([inventory])
    playbook("-i", inventory, "playbooks/down.yml")
    first, _ = playbook("-i", inventory, "site.yml")
    second, output = playbook("-i", inventory, "site.yml")
    memory = memory_by_machine(lab.name)
    grown, _ = playbook("-i", inventory, "-i", str(GROWTH), "site.yml")
    playbook("-i", inventory, "-i", str(GROWTH), "playbooks/remove.yml", "-e", "machine=backend-3")
    limited, _ = playbook("-i", inventory, "-i", str(GROWTH), "site.yml", "--limit", "backend-3,database")
    lines = [
        Measurement(f"first `make up`, {len(lab.machines)} machines, warm caches", f"{first:.0f} s", "180 s"),
        Measurement(f"second run, changed={changed(output)}", f"{second:.0f} s", "45 s"),
        Measurement("adding one backend: `site.yml`", f"{grown:.0f} s", "30 s"),
        Measurement("the same: `site.yml --limit backend-3,database`", f"{limited:.0f} s", "30 s"),
    ]
    if memory:
        total = f"{sum(memory.values()):.0f} MiB"
        lines.append(Measurement(f"memory of all {len(memory)} machines (sum of PSS)", total, "3072 MiB"))
    return lines, memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, clean up."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the lab's times and its memory.")
    parser.add_argument("-i", "--inventory", default=str(CONTAINERS), help="a containers inventory")
    parser.add_argument("--memory-only", action="store_true", help="the memory of the lab LAB_NAME that is up")
    options = parser.parse_args(arguments)
    now = datetime.datetime.now(datetime.UTC).date().isoformat()
    if options.memory_only:
        memory = memory_by_machine(os.environ.get("LAB_NAME") or "lab")
        total = Measurement("memory of all machines (sum of PSS)", f"{sum(memory.values()):.0f} MiB", "3072 MiB")
        print(table(machine_size(), now, [total], memory))
        return 0
    if os.geteuid() != 0:
        print("Not root: the memory of other users' processes cannot be read, it is left out.", file=sys.stderr)
    # Never the one that .lab/env may have set: it is removed.
    os.environ["LAB_NAME"] = own_lab(str(ROOT), "bench")
    try:
        lines, memory = measure(options.inventory)
        print(table(machine_size(), now, lines, memory))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        with contextlib.suppress(LabError):
            playbook("-i", options.inventory, "-i", str(GROWTH), "playbooks/down.yml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
