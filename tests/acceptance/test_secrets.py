"""Each known secret value is looked for wherever it must not be."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import hvac
import pytest

from tests.running import Run, Running
from tools.lab import ROOT, Lab
from tools.preparing.running import as_root

LEAST = 12


def strings(value: Any) -> list[str]:
    """Every string in a JSON value."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def key_lines(path: Path) -> list[str]:
    """The second line of a private key in PEM: long enough to be itself alone."""
    lines = [line for line in path.read_text(encoding="ascii").splitlines() if not line.startswith("-----")]
    return [max(lines, key=len)] if lines else []


def kept_on_the_controller(lab: Lab) -> dict[str, str]:
    """Secret to where it is kept, from every file of the lab's folder that holds some."""
    found = {}
    for path in lab.directory.rglob("*"):
        if not path.is_file() or path.is_symlink() or path.suffix in (".pem", ".pub") or "known_hosts" in path.name:
            continue
        name = str(path.relative_to(lab.directory))
        if path.suffix == ".key" or name == "ssh/id_ed25519":
            found.update(dict.fromkeys(key_lines(path), name))
        elif path.suffix == ".json" and name != "lab.json":  # whose the lab is; its machines say that too
            for text in strings(json.loads(path.read_text(encoding="utf-8"))):
                # Public: names, addresses, dates, accessors (identify, do not authorise).
                if len(text) >= LEAST and " " not in text and "/" not in text[:1] and not text.startswith("http"):
                    found[text] = name
        elif path.name in ("token", "consul-token"):
            found[path.read_text(encoding="utf-8").strip()] = name
    return found


@pytest.fixture(scope="module")
def known(running: Running) -> dict[str, str]:
    """Every known secret, and where it is kept."""
    found = kept_on_the_controller(running.lab)
    for name in running.names("backend"):
        text = running.attempt(name, "cat /run/secrets/pg_service.conf").stdout
        for match in re.findall(r"^password=(.+)$", text, re.MULTILINE):
            found[match.strip("'\" ")] = f"{name}:/run/secrets/pg_service.conf"
    with contextlib.suppress(hvac.exceptions.InvalidPath):  # there is none in mode dynamic
        read = running.lab.vault().secrets.kv.v2.read_secret_version
        secret = read(path="db", mount_point="secret", raise_on_deleted_version=True)["data"]["data"]
        found[secret["password"]] = "secret/db"
    secrets = {value: where for value, where in found.items() if len(value) >= LEAST}
    assert len(secrets) > 20, "the list of known secrets is too short to mean something"
    assert running.lab.secrets()["consul_management"] in secrets
    assert running.lab.vault_token() in secrets
    return secrets


def leaked(known: dict[str, str], text: bytes) -> set[str]:
    """Where the secrets that ``text`` holds are kept; never their values, as this is printed."""
    return {where for value, where in known.items() if value.encode() in text}


def test_no_process_showed_a_secret_while_the_lab_came_up(bring_up: dict[str, Any], known: dict[str, str]) -> None:
    if bring_up["run"] is None:
        pytest.skip("with --use-lab nothing was brought up")
    assert len(bring_up["seen"]) > 10_000, "the watcher saw nothing"
    assert leaked(known, bring_up["seen"]) == set()


def test_ansible_printed_no_secret_at_v(first_run: Run, known: dict[str, str]) -> None:
    assert leaked(known, first_run.output.encode()) == set()


def test_no_process_shows_a_secret_now(running: Running, known: dict[str, str]) -> None:
    for machine in running.lab.machines:
        done = running.attempt(machine.name, "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | base64 -w0")
        shown = base64.b64decode(done.stdout)
        assert b"systemd" in shown
        assert leaked(known, shown) == set(), f"on {machine.name}"


@pytest.mark.timeout(180)
def test_no_journal_holds_a_secret(running: Running, known: dict[str, str]) -> None:
    """The journal of each machine, and its other logs."""
    patterns = "\n".join(known)
    for machine in running.lab.machines:
        script = (
            "t=$(mktemp /run/patterns.XXXXXX); cat > $t; "
            "journalctl --no-pager -o export | grep -aoFf $t | sort -u; "
            "grep -rahoFf $t /var/log --exclude-dir=journal | sort -u; rm -f $t"
        )
        out = running.attempt(machine.name, script, patterns).stdout
        assert leaked(known, out.encode()) == set(), f"on {machine.name}"


@pytest.mark.timeout(300)
def test_no_file_that_others_can_read_holds_a_secret(running: Running, known: dict[str, str]) -> None:
    """As user nobody, every file that the machine has got since it was made, on disk and in memory."""
    patterns = "\n".join(known)
    for machine in running.lab.machines:
        # The patterns are in a file, not in arguments: the scan itself shows no secret.
        script = (
            "t=$(mktemp -d /run/scan.XXXXXX); cat > $t/p; chown -R 65534 $t; "
            'setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "'
            "find / /run /tmp /dev/shm -xdev \\( -path /proc -o -path /sys -o -path $t \\) -prune -o "
            "-type f -cnewer /etc/hostname -readable -size -4096k -print0 2>/dev/null "
            '| xargs -0 -r grep -alFf $t/p -- 2>/dev/null"; rm -rf $t; true'
        )
        files = running.sh(machine.name, script, patterns, timeout=120).split("\n")
        assert [file for file in files if file] == [], f"on {machine.name}"


def test_what_machines_share_holds_no_key_and_starts_nothing(running: Running) -> None:
    """The base tree and the layers are in machines of all labs: keys and clusters are each machine's own."""
    if running.lab.kind != "containers":
        pytest.skip("the machines share no files")
    artifacts = json.loads((ROOT / ".lab" / "artifacts.json").read_text())
    layers = [place for groups in artifacts["layers"].values() for place in groups.values()]
    shared = {*layers, *":".join(artifacts["base"].values()).split(":")}
    folders = [path for place in shared for path in (f"{place}/etc", f"{place}/var")]
    keys = ["grep", "-rlsE", "^-----BEGIN [A-Z ]*PRIVATE KEY-----$", *folders]
    clusters = ["find", *shared, "-name", "PG_VERSION"]
    # postgresql.service starts the clusters that there are.
    units = ["find", *layers, "-path", "*/etc/systemd/system/*.wants/*", "!", "-name", "postgresql.service"]
    for command in (keys, clusters, units):
        assert subprocess.run(as_root(command), capture_output=True, text=True, check=False).stdout == ""


def test_the_scan_would_find_a_secret(known: dict[str, str]) -> None:
    """The search itself works: a planted value is found."""
    value = next(iter(known))
    assert leaked(known, b"x" + value.encode() + b"y") == {known[value]}
