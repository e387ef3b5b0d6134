"""`make bench`: how long the lab takes to come up, to be run again and to grow, and how much memory it uses.

A lab of its own is removed, made from nothing with the caches that `make prepare` has filled, run again, measured, and
removed. Prints tables for docs/performance.md, each line with its mark. A mark that is missed is no failure: bench
measures. Environment variable ``ANSIBLE_STRATEGY=linear`` measures without Mitogen.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from plugins.module_utils.lab_owner import own_lab
from plugins.module_utils.nspawn import machines
from tools.lab import ROOT, LabError, load

BIN = Path(sys.executable).parent
CONTAINERS = ROOT / "inventories" / "containers"
KIBIBYTES_PER_MEBIBYTE = 1024
# What a lab of any size has besides its backends: the lab_index of each machine.
OTHERS = {"control": (11, 12, 13), "database": (20, 251), "frontend": (21,)}
FIRST_BACKEND = 101
SMALL = 8
# Seconds of the first run and the next, by the number of machines.
MARKS = {SMALL: (60.0, 15.0), 25: (180.0, 45.0)}
STATUS_RUNS = 10


class Measurement(NamedTuple):
    """A line of the table: ``value`` should be at most ``mark``; ``right`` is whether the work did what it should."""

    what: str
    value: float
    unit: str
    mark: float | None
    right: bool = True

    def row(self) -> str:
        """The line in Markdown."""
        mark = verdict = ""
        if self.mark is not None:
            mark = f"{self.mark:.0f} {self.unit}"
            verdict = "met" if self.right and self.value <= self.mark else "missed"
        return f"| {self.what} | {self.value:.1f} {self.unit} | {mark} | {verdict} |"


class Run(NamedTuple):
    """A command's seconds, what it printed, and the seconds of each play in it, by the play's name."""

    seconds: float
    output: str
    plays: dict[str, float]

    @property
    def changed(self) -> int:
        """How many tasks the recap calls changed, on all hosts."""
        recap = re.findall(r"^\S+\s+: ok=\d+\s+changed=(\d+)", self.output, re.MULTILINE)
        return sum(int(number) for number in recap)


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
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = parse_parent((folder / "stat").read_text(encoding="utf-8", errors="replace"))
    result = {}
    for machine in sorted(machines(), key=lambda found: found.name):
        if not machine.name.startswith(f"{lab_name}-"):
            continue
        total = 0
        for pid in descendants(machine.pid, parents):
            with contextlib.suppress(OSError):
                total += parse_pss(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
        result[machine.name.removeprefix(f"{lab_name}-")] = total / KIBIBYTES_PER_MEBIBYTE
    return result


def write_inventory(folder: Path, backends: int) -> None:
    """The containers inventory, with as many backends."""
    for path in CONTAINERS.iterdir():
        if path.name != "hosts.yml" and not (folder / path.name).is_symlink():
            (folder / path.name).symlink_to(path)
    groups = {
        group: {"hosts": {f"{group}-{number}": {"lab_index": index} for number, index in enumerate(indexes, 1)}}
        for group, indexes in {**OTHERS, "backend": range(FIRST_BACKEND, FIRST_BACKEND + backends)}.items()
    }
    # Whoever asks for fifty knows his memory; preflight asks for three times of what idle machines take.
    variables = {"lab_preflight_skip": ["memory"]}
    text = yaml.safe_dump({"lab": {"children": groups, "vars": variables}})
    (folder / "hosts.yml").write_text(text, encoding="utf-8")


def by_play(starts: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Seconds of each play, from the moments at which each began and, at last, the recap."""
    result: dict[str, float] = {}
    for (name, start), (_, end) in itertools.pairwise(starts):
        result[name] = result.get(name, 0.0) + end - start
    return result


def run(*words: str) -> Run:
    """Run a command in the project's folder.

    Raises:
        LabError: it failed.

    """
    print(f"$ {' '.join(words)}", file=sys.stderr, flush=True)
    start = time.monotonic()
    lines: list[str] = []
    plays: list[tuple[str, float]] = []
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            if found := re.match(r"PLAY (?:\[(.*)\]|RECAP) \*+$", line):
                plays.append((found[1] or "", time.monotonic()))
    seconds = time.monotonic() - start
    if process.returncode:
        raise LabError(f"{''.join(lines)[-4000:]}\n{' '.join(words)} failed.")
    print(f"  {seconds:.1f} s", file=sys.stderr, flush=True)
    return Run(seconds, "".join(lines), by_play(plays))


def status_runs(inventory: str) -> Measurement:
    """`make status` of a lab that is well, several times: whether it was right each time, and the slowest."""
    slowest, right = 0.0, 0
    for _ in range(STATUS_RUNS):
        start = time.monotonic()
        code = subprocess.run(["make", "status", f"INVENTORY={inventory}"], cwd=ROOT, capture_output=True).returncode
        slowest, right = max(slowest, time.monotonic() - start), right + (code == 0)
    what = f"`make status`, right {right} times of {STATUS_RUNS}, the slowest"
    return Measurement(what, slowest, "s", 5, right == STATUS_RUNS)


def measure(folder: Path, machines: int) -> Iterator[str]:
    """The tables, each as soon as it is known."""
    inventory = str(folder)
    playbook = ("ansible-playbook", "-i", inventory)
    backends = machines - sum(len(indexes) for indexes in OTHERS.values())
    write_inventory(folder, backends)
    lab = load([inventory])
    up_mark, again_mark = MARKS.get(machines, (None, None))
    run(*playbook, "playbooks/down.yml")
    first = run("make", "up", f"INVENTORY={inventory}")
    again = run(*playbook, "site.yml")
    lines = [
        Measurement(f"`make up` from nothing, {machines} machines", first.seconds, "s", up_mark),
        Measurement(f"`site.yml` again, changed={again.changed}", again.seconds, "s", again_mark, not again.changed),
        status_runs(inventory),
    ]
    memory = memory_by_machine(lab.name) if os.geteuid() == 0 else {}  # nobody else may read other users' memory
    if memory:
        mark = 3072 if machines == SMALL else None
        lines.append(Measurement("memory of all machines (sum of PSS)", sum(memory.values()), "MiB", mark))
    if machines == SMALL:
        lines += growth(folder, playbook, backends) + control_alone(playbook)
    yield table(lines)
    yield profile(first, again)
    if memory:
        rows = [f"| {name} | {mebibytes:.0f} MiB |" for name, mebibytes in memory.items()]
        yield "\n".join(["| machine | memory (PSS) |", "| --- | --- |", *rows])


def growth(folder: Path, playbook: Sequence[str], backends: int) -> list[Measurement]:
    """One backend more, by all of site.yml and by a limited run."""
    write_inventory(folder, backends + 1)
    name = f"backend-{backends + 1}"
    whole = run(*playbook, "site.yml")
    run(*playbook, "playbooks/remove.yml", "-e", f"machine={name}")
    limited = run(*playbook, "site.yml", "--limit", f"{name},database")
    return [
        Measurement("one more backend: all of `site.yml`", whole.seconds, "s", 20),
        Measurement(f"one more backend: `--limit {name},database`", limited.seconds, "s", 10),
    ]


def control_alone(playbook: Sequence[str]) -> list[Measurement]:
    """Consul, DNS and Vault on three machines of the base tree alone: what other projects' roles are compared with."""
    run(*playbook, "playbooks/down.yml")
    artifacts = json.loads((ROOT / ".lab" / "artifacts.json").read_text(encoding="utf-8"))
    artifacts["base"] = {release: folders.rpartition(":")[2] for release, folders in artifacts["base"].items()}
    limited = (*playbook, "site.yml", "--limit", "control", "-e", json.dumps({"lab_artifacts": artifacts}))
    first, again = run(*limited), run(*limited)
    what = "Consul, DNS and Vault on 3 machines without the layer of programs"
    return [
        Measurement(f"{what}: first", first.seconds, "s", 30),
        Measurement(f"{what}: again, changed={again.changed}", again.seconds, "s", 10, not again.changed),
    ]


def table(lines: Sequence[Measurement]) -> str:
    """What was measured, in Markdown."""
    return "\n".join(["| work | measured | mark | |", "| --- | --- | --- | --- |", *(line.row() for line in lines)])


def profile(first: Run, again: Run) -> str:
    """Where the time of the first run and of the next went, by play, in Markdown."""
    rows = [f"| {name} | {first.plays.get(name, 0):.1f} s | {again.plays.get(name, 0):.1f} s |" for name in first.plays]
    return "\n".join(["| part | first | again |", "| --- | --- | --- |", *rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, clean up."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the lab's times and its memory.")
    parser.add_argument(
        "--machines",
        type=int,
        default=SMALL,
        help="how many: three control machines, one database, "
        "one frontend, the rest backends; 7 measures growing as well",
    )
    options = parser.parse_args(arguments)
    if options.machines < SMALL - 1:
        parser.error(f"the smallest lab that can be measured has {SMALL - 1} machines")
    # Never the one that .lab/env may have set: it is removed.
    os.environ["LAB_NAME"] = own_lab(str(ROOT), "bench")
    today = datetime.datetime.now(datetime.UTC).date()
    with tempfile.TemporaryDirectory() as name:
        try:
            print(f"Measured on {today}: {machine_size()}, strategy {os.environ.get('ANSIBLE_STRATEGY', 'Mitogen')}.")
            for part in measure(Path(name), options.machines):
                print(f"\n{part}", flush=True)
        except LabError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            with contextlib.suppress(LabError):
                run("ansible-playbook", "-i", name, "playbooks/down.yml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
