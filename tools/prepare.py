"""Prepare the controller: Debian packages, programs, the backend's wheels, the machines' base tree and layers.

    python -m tools.prepare [STEP...] [--program NAME]... [--release NAME]... [--set NAME]...
                            [--architecture NAME]... [--json]

Steps: packages, programs, wheels, base (all, if none is named). What is made is kept in the user's cache folder by its
content and shared by all clones; what is there already costs nothing. Where it all is goes into .lab/artifacts.json.
It is for this computer's kind of processor. A run that meets a machine of another kind names that (--architecture): its
programs are noted beside this computer's, and from then on the wheels are for both.
What nobody used for 60 days goes at the end, but never what a machine stands on.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.preparing import base_tree, cache, layers, packages, programs, prune, wheels
from tools.preparing.running import PrepareError, say

PROJECT = Path(__file__).resolve().parents[1]
STEPS = ("packages", "programs", "wheels", "base")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare what the command line asks for; the exit status."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("prepare: ended by SIGTERM; run it again and it goes on"))
    started = time.monotonic()
    try:
        result = prepare(options)
    except PrepareError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("prepare: interrupted; run it again and it goes on", file=sys.stderr)
        return 130
    say("total", f"{time.monotonic() - started:.1f} s")
    if options.json:
        print(json.dumps(result, indent=2))
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="prepare", description="Prepare the controller of a lab.")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"one of {', '.join(STEPS)} (default: all)")
    parser.add_argument("--program", action="append", metavar="NAME", help="default: consul and vault")
    parser.add_argument(
        "--release", action="append", metavar="NAME", help="Debian release of a tree (default: bookworm)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME", help="more packages, such as 'tests'")
    parser.add_argument("--tests", dest="set", action="append_const", const="tests", help="the same as --set tests")
    parser.add_argument(
        "--architecture", action="append", metavar="NAME", help="programs for what 'uname -m' says (default: as here)"
    )
    parser.add_argument("--json", action="store_true", help="print at the end what .lab/artifacts.json holds")
    parser.add_argument("--lab", type=Path, default=PROJECT / ".lab", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.steps) - set(STEPS)
    if unknown:
        parser.error(f"there is no step '{unknown.pop()}'; the steps are {', '.join(STEPS)}")
    options.steps = options.steps or list(STEPS)
    return options


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """Run the steps, and return where everything is, as .lab/artifacts.json holds it afterwards."""
    folder = cache.folder()
    result = read_result(options.lab / "artifacts.json")
    if "packages" in options.steps:
        packages.prepare(["default", *options.set])
    if "programs" in options.steps:
        for machine in options.architecture or [result["architecture"]]:
            found = _programs(options.program or ["consul", "vault"], machine, folder / "programs")
            if machine == result["architecture"]:
                result["programs"] |= found
            else:
                result["other_programs"][machine] = result["other_programs"].get(machine, {}) | found
    if "wheels" in options.steps:
        machines = sorted({result["architecture"], *result["other_programs"]})
        result["wheels"] = str(wheels.prepare(PROJECT / "app/backend/requirements.txt", folder / "wheels", machines))
    if "base" in options.steps:
        for release in options.release or ["bookworm"]:
            tree = base_tree.prepare(release, folder / "base")
            result["base"][release] = str(tree)
            result["layers"][release] = layers.groups(tree, folder / "layers")
    if result["base"] and {"base", "programs"} & set(options.steps):
        layer = layers.prepare(result["programs"], folder / "layers")
        # As overlayfs takes it: the uppermost layer first.
        over = f"{layer}:" if layer else ""
        result["base"] = {name: f"{over}{place.rsplit(':', 1)[-1]}" for name, place in result["base"].items()}
    options.lab.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache.write(options.lab / "artifacts.json", json.dumps(result, indent=2, sort_keys=True) + "\n")
    prune.prune()
    return result


def _programs(names: Sequence[str], machine: str, folder: Path) -> dict[str, str]:
    """The path of each program, for a kind of machine."""
    known = programs.read(PROJECT / "artifacts", machine)
    source = os.environ.get("LAB_PROGRAM_SOURCE") or "auto"
    found = {}
    for name in names:
        if name not in known:
            raise PrepareError(f"There is no program '{name}'. Use one of: {', '.join(known)}.")
        place = programs.prepare(known[name], source, folder)
        found[name] = str(place / name)
        if name == "vault":
            # A release has the plugin built in.
            plugin = place / "postgresql-database-plugin"
            found["vault_plugin_postgresql"] = str(plugin) if plugin.exists() else ""
    return found


def read_result(path: Path) -> dict[str, Any]:
    """What earlier runs prepared, without what is no longer there."""
    here = os.uname().machine
    empty: dict[str, Any] = {"base": {}, "layers": {}, "other_programs": {}, "programs": {}, "wheels": ""}
    empty["architecture"] = here
    try:
        found = json.loads(path.read_text())
        return {
            "architecture": here,
            "base": {name: place for name, place in found["base"].items() if _all_there(place)},
            "layers": {
                release: {group: place for group, place in found["layers"][release].items() if Path(place).is_dir()}
                for release in found["layers"]
            },
            "other_programs": {
                machine: files
                for machine, files in found.get("other_programs", {}).items()
                if machine != here and files == _files_there(files)
            },
            "programs": _files_there(found["programs"]),
            "wheels": found["wheels"] if Path(found["wheels"]).is_dir() else "",
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return empty


def _files_there(files: dict[str, str]) -> dict[str, str]:
    return {name: file for name, file in files.items() if not file or Path(file).is_file()}


def _all_there(place: str) -> bool:
    return all(Path(layer).is_dir() for layer in place.split(":"))


if __name__ == "__main__":
    sys.exit(main())
