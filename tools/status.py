"""`make status`: what the lab looks like from the controller, and exit code 1 if anything is bad.

Red, unhealthy, is a lab whose page fails its users; degraded one where something failed that others stand in for.

All services are asked at once, and as many machines at a time as processors can log in to; what does not answer in time
is a line, never a traceback. The judgement (``judge_*``) is apart from the asking (``ask_*``), so that tests reach it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
from cryptography import x509

from plugins.module_utils.lab_owner import RefusedError, check_owner, read_owner, this_clone
from plugins.module_utils.nspawn import machines
from tools.lab import CONSUL_PORT, PATRONI_PORT, ROOT, VAULT_PORT, Lab, LabError, Machine, load

GOOD, WARNING, BAD = "good", "warning", "bad"
# So long a frontend tries one instance after the other: where one hangs, an answer is late, and no failure.
ANSWERED = 10.0
# Less than that of a disk is as good as nothing.
FULL = 0.01
# Bytes that a replica may be behind the primary.
LATE = 16 << 20
# Seconds after which what an instance says of its database is old: a look waits as long as a request.
OLD = 8.0
# Seconds after which instances and the page are asked once more: something hangs, and they may know by now.
FRESH = 3.0
URGENT = datetime.timedelta(days=7)
TOKEN_LOW = 0.25
# A login is work for the controller's processors, and in a lab of containers for the machines' as well: more at a time
# only make each of them late.
LOGINS = 2 * (os.cpu_count() or 1)
# Seconds, many times what a login takes: who takes longer only waits, as for a dead machine, and holds nobody up.
LOGIN = 1.0
# What OpenSSL says of a certificate, and what is to be said of it.
CERTIFICATE_PROBLEMS = {
    "certificate has expired": "its certificate has expired",
    "not yet valid": "its certificate is not valid yet, or a clock is wrong",
    "ostname mismatch": "its certificate is another service's",
    "unable to get local issuer": "its certificate is not from this lab's CA",
    "self-signed": "its certificate is not from this lab's CA",
    "self signed": "its certificate is not from this lab's CA",
    "signature failure": "its certificate is not from this lab's CA",
}
COLOURS = {GOOD: "32", WARNING: "33", BAD: "31"}
VERDICTS = {"healthy": GOOD, "degraded": WARNING, "unhealthy": BAD}
MARKS = {GOOD: "✓", WARNING: "!", BAD: "✗"}


@dataclass(frozen=True)
class Line:
    """One fact: what it is about, its state in a word or two, more about it, and how it is judged."""

    section: str
    name: str
    state: str
    detail: str = ""
    level: str = GOOD
    remedy: str = ""


@dataclass(frozen=True)
class Answer:
    """What a question gave: a value, or why there is none."""

    value: Any = None
    error: str = ""


def reason(error: BaseException) -> str:
    """A network or API error in a few words."""
    text = str(error)
    if isinstance(error, (requests.ConnectTimeout, requests.ReadTimeout, subprocess.TimeoutExpired)):
        return "no answer in time"
    if isinstance(error, (requests.exceptions.SSLError, ssl.SSLError)):
        return certificate_problem(error)
    if isinstance(error, requests.ConnectionError):
        return "connection refused" if "refused" in text else "not reachable"
    return " ".join(text.split())[:120] or type(error).__name__


def certificate_problem(error: BaseException) -> str:
    """What is wrong with the certificate that a service has shown, out of what OpenSSL says."""
    text = str(error)
    for sign, words in CERTIFICATE_PROBLEMS.items():
        if sign in text:
            return words
    return "its certificate is not from this lab's CA, is another service's, or has expired"


def attempt(question: Callable[[], Any]) -> Answer:
    """Ask, and turn whatever goes wrong into a short reason: a status command has no use for a traceback."""
    try:
        return Answer(question())
    except Exception as error:  # the clients of four services raise classes of their own
        return Answer(error=reason(error))


# Asking ---------------------------------------------------------------------------------------------------------------


def ask_machines(machines: Sequence[Machine], timeout: float) -> dict[str, Answer]:
    """Each machine's answer, by its name; only ``LOGINS`` log in at a time."""
    logins = threading.Semaphore(LOGINS)
    with ThreadPoolExecutor(max_workers=max(1, len(machines))) as pool:
        answers = pool.map(lambda machine: attempt(lambda: ask_machine(machine, timeout, logins)), machines)
        return {machine.name: answer for machine, answer in zip(machines, answers, strict=True)}


def ask_machine(machine: Machine, timeout: float, logins: threading.Semaphore) -> Any:
    """The state that systemd gives itself, its failed units, full disks; ``timeout`` counts from the login's start."""
    command = machine.ssh(
        "systemctl is-system-running || systemctl list-units --failed --plain --no-legend | cut -d' ' -f1; echo --; "
        "df --output=avail,size,iavail,itotal,target $(findmnt -rno TARGET -O rw) 2>/dev/null",
        timeout=timeout,
    )
    with logins, contextlib.suppress(subprocess.TimeoutExpired):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return _machine_state(process, LOGIN)
    with process:
        try:
            return _machine_state(process, timeout)
        finally:
            process.kill()


def _machine_state(process: subprocess.Popen[str], timeout: float) -> dict[str, Any]:
    output, problem = process.communicate(timeout=timeout)
    if process.returncode == 255:
        raise LabError(problem.strip().splitlines()[-1] if problem.strip() else "ssh does not answer")
    units, _, disks = output.partition("--\n")
    words = units.split()
    return {"system": words[0] if words else "unknown", "failed": words[1:], "full": full(disks)}


def full(disks: str) -> list[str]:
    r"""What is full of the file systems in df's table: KiB and inodes, each available and in all, and the place.

    >>> full("Avail 1K-blocks IFree Inodes Mounted on\n 9 1000 - - /\n 70 100 0 50 /var\n 0 0 0 0 /proc")
    ['/ has 9 KiB left', '/var has no inodes left']
    """
    found = []
    for line in disks.splitlines()[1:]:
        *numbers, place = line.split(maxsplit=4)
        left, size, inodes, all_inodes = (int(number) if number.isdigit() else 0 for number in numbers)
        if left < size * FULL:
            found.append(f"{place} has {left} KiB left")
        elif inodes < all_inodes * FULL:
            found.append(f"{place} has {inodes or 'no'} inodes left")
    return found


def ask_consul(lab: Lab, timeout: float) -> Any:
    """Members, leader, raft's health, and all checks, from the first server that answers."""
    token = lab.secrets().get("consul_management", "")
    error: Exception = LabError("no server answers")
    for machine in lab.group("control"):
        try:
            return {
                path: _consul(lab, machine, path, token, timeout)
                for path in ("agent/members", "status/leader", "operator/autopilot/health", "health/state/any")
            } | {"nodes": _consul(lab, machine, "catalog/nodes", token, timeout)}
        except requests.RequestException as caught:
            error = caught
    raise error


def _consul(lab: Lab, machine: Machine, path: str, token: str, timeout: float) -> Any:
    answer = lab.get(
        f"https://{machine.address}:{CONSUL_PORT}/v1/{path}", timeout=timeout, headers={"X-Consul-Token": token}
    )
    if answer.status_code == 403:
        raise LabError("the management token is refused")
    if path != "operator/autopilot/health":  # answers 429 with the same JSON when unhealthy
        answer.raise_for_status()
    return answer.json()


def ask_vault(lab: Lab, machine: Machine, timeout: float) -> Any:
    """One node's health; needs no token."""
    codes = "standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200"
    return lab.get(f"https://{machine.address}:{VAULT_PORT}/v1/sys/health?{codes}", timeout=timeout).json()


def ask_vault_cluster(lab: Lab, timeout: float) -> Any:
    """How long the administrator's token lives yet, and its period, in seconds; and which nodes vote in raft."""
    error: Exception = LabError("no node answers")
    for machine in lab.group("control"):
        try:
            vault = lab.vault(machine, timeout=timeout)
            data = vault.auth.token.lookup_self()["data"]
            servers = vault.sys.read_raft_config()["data"]["config"]["servers"]
            return {
                "ttl": data.get("ttl", 0),
                "period": data.get("period") or data.get("creation_ttl", 0),
                "voters": [server["node_id"] for server in servers if server["voter"]],
            }
        except requests.RequestException as caught:
            error = caught
    raise error


def ask_postgresql(lab: Lab, timeout: float) -> Any:
    """What Patroni knows of the cluster, from the first machine that answers."""
    error: Exception = LabError("no machine answers")
    for machine in lab.group("database"):
        try:
            return lab.get(f"https://{machine.address}:{PATRONI_PORT}/cluster", timeout=timeout).json()
        except requests.RequestException as caught:
            error = caught
    raise error


def ask_page(lab: Lab, url: str, timeout: float) -> Any:
    """The page itself, what it says about the backends, and whether its notes can be read."""
    patience = max(timeout, ANSWERED)
    paths = ("", "api/instances", "api/notes?limit=1")
    with ThreadPoolExecutor(len(paths)) as pool:
        page, instances, notes = pool.map(lambda path: lab.get(f"{url}/{path}", timeout=patience), paths)
    return {
        "code": page.status_code,
        "api": instances.status_code,
        "count": _count(instances),
        "notes": notes.status_code,
    }


def ask_backend(lab: Lab, machine: Machine, timeout: float) -> Any:
    """What an instance says of itself. It tells whoever has its own certificate."""
    files = lab.directory / "tls" / machine.name
    answer = lab.get(
        f"https://{machine.address}:{lab.services['backend']['port']}/api/status",
        timeout=timeout,
        cert=(str(files / "backend.pem"), str(files / "backend.key")),
    )
    answer.raise_for_status()
    return answer.json()


def ask_certificate(lab: Lab, machine: Machine, service: str, port: int, timeout: float) -> None:
    """Let a service show its certificate. Raises ssl.SSLCertVerificationError for one that its clients would refuse."""
    context = ssl.create_default_context(cafile=str(lab.authority))
    with socket.create_connection((machine.address, port), timeout) as plain:
        if service == "postgresql" and port != PATRONI_PORT:
            plain.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # PostgreSQL's request for TLS
            plain.recv(1)
        with context.wrap_socket(plain, server_hostname=lab.services[service]["names"][0]):
            pass


def ask_certificates(lab: Lab, machines: Sequence[Machine], timeout: float) -> dict[tuple[str, str], Answer]:
    """For each service with a port and a certificate, on each machine that has it; Patroni has a port of its own."""
    asked = [
        (machine, name, port)
        for machine in machines
        for name, entry in lab.services_of(machine).items()
        if "port" in entry and entry.get("names")
        for port in ((entry["port"], PATRONI_PORT) if name == "postgresql" else (entry["port"],))
    ]
    with ThreadPoolExecutor(max_workers=16) as pool:
        answers = pool.map(lambda one: attempt(lambda: ask_certificate(lab, one[0], one[1], one[2], timeout)), asked)
        names = [(machine.name, name if port != PATRONI_PORT else "patroni") for machine, name, port in asked]
        return dict(zip(names, answers, strict=True))


def _count(answer: requests.Response) -> int | None:
    try:
        return int(answer.json()["count"])
    except (ValueError, KeyError, TypeError):
        return None


def read_certificates(folder: Path) -> list[dict[str, Any]]:
    """Every certificate that the lab's CA has issued, and the CA itself: name, start and end."""
    found = []
    for path in sorted(folder.rglob("*.pem")):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        found.append(
            {
                "name": str(path.relative_to(folder).with_suffix("")),
                "start": certificate.not_valid_before_utc,
                "end": certificate.not_valid_after_utc,
            }
        )
    return found


def running_containers(lab: Lab) -> set[str] | None:
    """Names of this lab's machines that run, or None where machines are no containers of this computer."""
    if lab.kind != "containers":
        return None
    names = {machine.name for machine in machines()}
    return {machine.name for machine in lab.machines if f"{lab.name}-{machine.name}" in names}


# Judging --------------------------------------------------------------------------------------------------------------


def judge_machines(machines: Sequence[Machine], running: set[str] | None, answers: dict[str, Answer]) -> list[Line]:
    """A machine is good when it answers over ssh and no unit has failed."""
    lines = []
    for machine in machines:
        name = machine.name
        if running is not None and name not in running:
            lines.append(
                Line("Machines", name, "not running", machine.address, BAD, "make up starts it; its data is kept.")
            )
            continue
        answer = answers[name]
        if answer.error:
            lines.append(
                Line("Machines", name, "no ssh", f"{machine.address}, {answer.error}", BAD, "Is it still booting?")
            )
            continue
        failed, disks = answer.value["failed"], answer.value["full"]
        if disks:
            remedy = f"Free some space on {name}: what could not write goes on by itself, or restart its unit."
            lines.append(Line("Machines", name, "no room", "; ".join(disks), BAD, remedy))
        if failed:
            remedy = f"On {name}: journalctl -u {failed[0]}"
            lines.append(
                Line("Machines", name, "degraded", f"{machine.address}, failed: {', '.join(failed)}", BAD, remedy)
            )
        elif answer.value["system"] in ("running", "degraded"):
            lines.append(Line("Machines", name, "running", machine.address))
        else:
            lines.append(Line("Machines", name, answer.value["system"], machine.address, WARNING))
    return lines


def judge_consul(
    machines: Sequence[Machine], answer: Answer, others: Iterable[str] = (), playbook: str = "ansible-playbook"
) -> list[Line]:
    """Every machine is an alive member, there is a leader, and raft says that it is healthy.

    ``others`` are hosts that the inventory names outside the lab: no strangers, whatever Consul knows of them.
    ``playbook`` is how a playbook is run on this lab and no other.
    """
    if answer.error:
        return [Line("Consul", "cluster", "no answer", answer.error, BAD, "On control-1: journalctl -u consul")]
    value = answer.value
    members = {member["Name"]: member for member in value["agent/members"]}
    lines = []
    servers = [name for name, member in members.items() if member.get("Tags", {}).get("role") == "consul"]
    alive = [name for name, member in members.items() if member["Status"] == 1]
    wanted = [machine.name for machine in machines if machine.group == "control"]
    leader_address = str(value["status/leader"]).rpartition(":")[0]
    leader = next((name for name, member in members.items() if member["Addr"] == leader_address), "")
    missing = [machine.name for machine in machines if machine.name not in alive]
    left = [name for name, member in members.items() if member["Status"] == 4]
    if not leader:
        lines.append(Line("Consul", "leader", "none", "no quorum", BAD, "At least half of the servers are down."))
    else:
        lines.append(Line("Consul", "leader", leader))
    up = [name for name in servers if name in alive]
    level = GOOD if set(wanted) <= set(up) else BAD
    detail = f"{len(up)} of {len(wanted)} alive"
    health = value["operator/autopilot/health"]
    if not health.get("Healthy", False):
        level, detail = BAD, f"{detail}, raft is not healthy"
    elif len(wanted) > 1:
        detail += f", {health.get('FailureTolerance', 0)} may fail"
    lines.append(Line("Consul", "servers", f"{len(up)}/{len(wanted)}", detail, level, "journalctl -u consul there"))
    expected = len(machines)
    lines.append(
        Line(
            "Consul",
            "members",
            f"{expected - len(missing)}/{expected}",
            f"not alive: {', '.join(missing)}" if missing else "all alive",
            BAD if missing else GOOD,
            f"On {missing[0]}: systemctl status consul" if missing else "",
        )
    )
    known = {machine.name for machine in machines} | set(others)
    strangers = sorted(
        {node["Node"] for node in value["nodes"]} - known | {name for name in members if name not in known} - set(left)
    )
    for name in strangers:
        lines.append(
            Line(
                "Consul",
                name,
                "not in the inventory",
                "Consul still knows it",
                WARNING,
                f"{playbook} playbooks/remove.yml -e machine={name}",
            )
        )
    return lines


def judge_vault(machines: Sequence[Machine], answers: dict[str, Answer]) -> list[Line]:
    """Every node is initialised and unsealed, and exactly one is active."""
    lines = []
    active = 0
    for machine in machines:
        answer = answers[machine.name]
        if answer.error:
            lines.append(
                Line("Vault", machine.name, "no answer", answer.error, BAD, f"On {machine.name}: journalctl -u vault")
            )
            continue
        health = answer.value
        version = str(health.get("version", ""))
        if not health.get("initialized"):
            lines.append(Line("Vault", machine.name, "not initialised", version, BAD, "make up initialises it."))
        elif health.get("sealed"):
            remedy = f"On {machine.name}: systemctl restart vault (it unseals itself at its start)"
            lines.append(Line("Vault", machine.name, "sealed", version, BAD, remedy))
        else:
            leads = not health.get("standby", True)
            active += leads
            lines.append(Line("Vault", machine.name, "active" if leads else "standby", version))
    if not active and not any(line.level == BAD for line in lines):
        lines.append(Line("Vault", "cluster", "no active node", "an election may be under way", BAD))
    return lines


def judge_voters(machines: Sequence[Machine], answer: Answer) -> list[Line]:
    """Every node votes; one that does not can't take over from the active one. Said only where one does not."""
    waiting = [] if answer.error else [item.name for item in machines if item.name not in answer.value["voters"]]
    if not waiting:
        return []
    detail = f"{', '.join(waiting)} can't take over yet"
    return [Line("Vault", "raft", "not all vote", detail, BAD, "One that has just joined votes within seconds.")]


def judge_token(answer: Answer) -> list[Line]:
    """The administrator's token is renewed by each run; said only when that should happen soon."""
    if answer.error:
        return [
            Line(
                "Vault", "administrator", "token refused", answer.error, BAD, "make up makes a new one from the shares."
            )
        ]
    left, period = answer.value["ttl"], answer.value["period"]
    if period and left < period * TOKEN_LOW:
        days = left / 86400
        return [Line("Vault", "administrator", "token ends soon", f"in {days:.1f} days", WARNING, "make up renews it.")]
    return []


def judge_postgresql(machines: Sequence[Machine], answer: Answer) -> list[Line]:
    """One machine is the primary, the others follow it, and one of these has all that was acknowledged."""
    if not machines:
        return []
    if answer.error:
        remedy = f"On {machines[0].name}: journalctl -u patroni"
        return [Line("PostgreSQL", "cluster", "no answer", answer.error, BAD, remedy)]
    members = {member["name"]: member for member in answer.value["members"]}
    roles = [member["role"] for member in members.values()]
    lines = []
    for machine in machines:
        member = members.get(machine.name, {"role": "", "state": "not in the cluster"})
        role, state, late = member["role"], member["state"], member.get("lag", 0)
        remedy = f"On {machine.name}: journalctl -u patroni"
        if state not in ("running", "streaming"):
            lines.append(Line("PostgreSQL", machine.name, state, "", BAD, remedy))
        elif role == "leader":
            lines.append(Line("PostgreSQL", machine.name, "primary"))
        elif "sync_standby" not in roles:
            detail = "it can't take over yet: it does not have all that was acknowledged"
            lines.append(Line("PostgreSQL", machine.name, "replica", detail, BAD, remedy))
        elif not isinstance(late, int) or late > LATE:
            detail = f"it is {late >> 20} MiB late" if isinstance(late, int) else "nobody knows how late it is"
            lines.append(Line("PostgreSQL", machine.name, "replica", detail, WARNING, remedy))
        else:
            detail = "has all that is acknowledged" if role == "sync_standby" else "follows"
            lines.append(Line("PostgreSQL", machine.name, "replica", detail))
        if member.get("pending_restart"):
            detail = "some of its settings wait for that"
            lines.append(Line("PostgreSQL", machine.name, "must restart", detail, WARNING, "make up restarts it."))
    if "leader" not in roles and not any(line.level == BAD for line in lines):
        lines.append(Line("PostgreSQL", "cluster", "no primary", "an election may be under way", BAD))
    if answer.value.get("pause"):
        remedy = f"On {machines[0].name}: patronictl -c /etc/patroni/config.yml resume"
        lines.append(Line("PostgreSQL", "cluster", "paused", "no machine takes over", WARNING, remedy))
    return lines


def judge_services(lab: Lab, answer: Answer) -> list[Line]:
    """Instances of each service whose checks (and whose node's checks) all pass, against the inventory's count."""
    if answer.error:
        return []
    node_states: dict[str, str] = {}
    instances: dict[str, dict[tuple[str, str], list[Any]]] = {}
    ranks = {"passing": 0, "warning": 1, "critical": 2, "maintenance": 2}
    for check in answer.value["health/state/any"]:
        if not check.get("ServiceName"):
            worst = max(check["Status"], node_states.get(check["Node"], "passing"), key=lambda word: ranks.get(word, 2))
            node_states[check["Node"]] = worst
        else:
            key = (check["Node"], check["ServiceID"])
            instances.setdefault(check["ServiceName"], {}).setdefault(key, []).append(check)
    # A server's own service has no check of its own: its node's says it.
    servers = [m["Name"] for m in answer.value["agent/members"] if m.get("Tags", {}).get("role") == "consul"]
    instances.setdefault("consul", {(name, "consul"): [] for name in servers if name in node_states})
    lines = []
    for service, entry in lab.services.items():
        if "port" not in entry:
            continue
        wanted, named = len(lab.group(entry["group"])), 0
        wrong: list[str] = []
        warned: list[str] = []

        def judged(node: str, checks: list[Any]) -> str:
            states = [check["Status"] for check in checks] + [node_states.get(node, "passing")]
            return str(max(states, key=lambda word: ranks.get(word, 2)))

        others = instances.get(entry.get("standby", ""), {}).items()
        standing_by = {node for (node, _), checks in others if judged(node, checks) == "passing"}
        for (node, _), checks in instances.get(service, {}).items():
            worst = judged(node, checks)
            if worst == "critical" and node in standing_by:
                named += 1
                continue
            said = next((_said(check) for check in checks if check["Status"] == worst), "")
            # DNS names those with a warning, too.
            named += worst in ("passing", "warning")
            if worst != "passing":
                (warned if worst == "warning" else wrong).append(f"{node} {worst}" + (f" ({said})" if said else ""))
        absent = wanted - named - len(wrong)
        if absent > 0:
            wrong.append(f"{absent} not registered")
        level = BAD if wrong or named < wanted else WARNING if warned else GOOD
        detail = "; ".join(wrong + warned) or "all passing"
        state = f"{named}/{wanted}"
        remedy = f"Where it is not passing: journalctl -u '{entry['units'][0]}'" if wrong or warned else ""
        lines.append(Line("Services", service, state, detail, level, remedy))
    return lines


def _said(check: dict[str, Any]) -> str:
    """What a check is about and what it last said, in a few words."""
    output = " ".join(str(check.get("Output", "")).partition("Output: ")[0].split())[:60]
    return ": ".join(part for part in (str(check.get("Name", "")), output) if part)


def judge_backends(answers: dict[str, Answer]) -> list[Line]:
    """What each instance says of its database: whether it has it, and when its credentials end."""
    lines = []
    for name, answer in answers.items():
        if answer.error:
            # Where Consul has found out as well, DNS does not name it any more, and nobody asks it.
            detail, remedy = answer.error, f"On {name}: systemctl status nginx backend"
            lines.append(Line("Database", name, "no answer", detail, BAD, remedy))
            continue
        seen, secrets = answer.value["database"], answer.value["secrets"]
        old, end = (seen["checked_seconds_ago"] or 0) > OLD, seen.get("credentials_end_seconds")
        age = secrets.get("pg_service.conf", {}).get("age_seconds")
        parts = [str(seen["user"] or "")]
        parts += [f"credentials {span(age)} old"] if age is not None else ["no credentials"]
        parts += [f"they end in {span(end)} unless renewed"] if end is not None else []
        detail = ", ".join(part for part in parts if part)
        if seen["status"] != "up" or old:
            why = f"not looked at for {span(seen['checked_seconds_ago'])}" if old else str(seen["error"] or "")
            remedy = f"On {name}: journalctl -u backend -u vault-agent; on the database: journalctl -u patroni"
            lines.append(Line("Database", name, "away", f"{why[:120]} ({detail})", BAD, remedy))
        elif seen.get("credentials_ending"):
            remedy = f"Is Vault well? On {name}: journalctl -u vault-agent"
            lines.append(Line("Database", name, "ends soon", f"{detail}; that is overdue", WARNING, remedy))
        else:
            lines.append(Line("Database", name, "up", detail))
    return lines


def span(seconds: float) -> str:
    """A time as people say it.

    >>> span(42.4), span(190), span(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def judge_shown(answers: dict[tuple[str, str], Answer]) -> list[Line]:
    """What is wrong with certificates that services have shown; one that does not answer is seen elsewhere."""
    return [
        Line(
            "Certificates",
            f"{name}/{service}",
            "refused",
            f"the certificate that it shows {answer.error.removeprefix('its certificate ')}",
            BAD,
            "make up brings the lab's own; if it has ended, it renews it.",
        )
        for (name, service), answer in answers.items()
        if answer.error.startswith("its certificate")
    ]


def refused_writes(answers: dict[str, Answer]) -> str:
    """Why no note can be written, though they can be read: all wait for the primary, or one was refused just now."""
    told = {name: answer.value["database"] for name, answer in answers.items() if not answer.error}
    if told and all(seen["status"] == "down" and seen.get("readable") for seen in told.values()):
        return f"no instance reaches the primary: {next(iter(told.values()))['error']}"[:160]
    for name, seen in told.items():
        if seen.get("write_error") and seen["write_error_seconds_ago"] <= OLD:
            return f"{name} can't write: {seen['write_error'][:120]}"
    return ""


def judge_pages(answers: dict[str, Answer], backends: int, unwritten: str = "") -> list[Line]:
    """Each frontend answers, and its API too. ``unwritten`` says why no note can be written."""
    lines = []
    for url, answer in answers.items():
        if answer.error:
            lines.append(Line("Page", url, "no answer", answer.error, BAD, "On the frontend: journalctl -u nginx"))
            continue
        value = answer.value
        if value["code"] != 200:
            lines.append(Line("Page", url, f"HTTP {value['code']}", "", BAD, "On the frontend: journalctl -u nginx"))
        elif value["api"] != 200 and value["notes"] != 200:
            lines.append(
                Line("Page", url, "no backend", f"/api/ answers {value['api']}", BAD, "See the backends above.")
            )
        elif value["notes"] != 200:
            problem = f"/api/notes answers {value['notes']}"
            lines.append(Line("Page", url, "no notes", problem, BAD, "See the database above."))
        elif unwritten:
            lines.append(Line("Page", url, "only reads", unwritten, BAD, "See the database's machine above."))
        elif value["api"] != 200:
            problem = "it cannot say which backends there are"
            lines.append(Line("Page", url, "no list", problem, WARNING, "See Consul above."))
        else:
            count = value["count"]
            lines.append(Line("Page", url, "answers", f"{count} of {backends} backends active"))
    return lines


def judge_certificates(certificates: Iterable[dict[str, Any]], now: datetime.datetime) -> list[Line]:
    """Good with more than a third of their life left, bad in the last week."""
    ordered = sorted(certificates, key=lambda item: item["end"])
    if not ordered:
        return [Line("Certificates", "none", "missing", "", BAD, "make up issues them.")]
    lines = []
    for item in ordered:
        left = item["end"] - now
        if left < URGENT:
            state = "expired" if left.total_seconds() <= 0 else f"{left.days} days left"
            lines.append(Line("Certificates", item["name"], state, "", BAD, "make up renews it."))
        elif left < (item["end"] - item["start"]) / 3:
            lines.append(
                Line("Certificates", item["name"], f"{left.days} days left", "", WARNING, "make up renews it.")
            )
    if not lines:
        first = ordered[0]
        detail = f"the first to expire is {first['name']} in {(first['end'] - now).days} days"
        lines.append(Line("Certificates", f"{len(ordered)} issued", "valid", detail))
    return lines


# Showing --------------------------------------------------------------------------------------------------------------


def collect(lab: Lab, timeout: float | None = None) -> list[Line]:
    """Ask everything and judge it; ``timeout`` is in seconds for each question, None as the lab's machines need."""
    # Under emulation a login alone takes seconds.
    timeout = timeout or (5.0 if lab.kind == "containers" else 15.0)
    if not lab.authority.exists():
        if lab.kind == "containers":
            owner = read_owner(lab.machines_directory)
            check_owner(lab.name, lab.kind, owner, this_clone(str(ROOT), str(lab.directory)))
        raise LabError(f"There is no lab '{lab.name}' yet ({lab.directory} is empty): run 'make up'.")
    lab.secrets()  # says plainly when the files are another user's
    running = running_containers(lab)
    control = lab.group("control")
    alive = [machine for machine in lab.machines if running is None or machine.name in running]
    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=32) as pool:

        def ask(question: Callable[[], Any]) -> Future[Answer]:
            return pool.submit(attempt, question)

        def ask_backends(machines: Iterable[Machine]) -> dict[str, Future[Answer]]:
            return {item.name: ask(lambda m=item: ask_backend(lab, m, timeout)) for item in machines}  # type: ignore[misc]

        def ask_pages(urls: Iterable[str]) -> dict[str, Future[Answer]]:
            return {url: ask(lambda u=url: ask_page(lab, u, timeout)) for url in urls}  # type: ignore[misc]

        def good(answers: dict[str, Future[Answer]]) -> list[str]:
            return [name for name, said in answers.items() if not said.result().error]

        consul = ask(lambda: ask_consul(lab, timeout))
        vaults = {node.name: ask(lambda n=node: ask_vault(lab, n, timeout)) for node in control}  # type: ignore[misc]
        cluster = ask(lambda: ask_vault_cluster(lab, timeout))
        postgresql = ask(lambda: ask_postgresql(lab, timeout))
        pages = ask_pages(lab.pages())
        certificates = ask(lambda: read_certificates(lab.directory / "tls"))
        shown = ask(lambda: ask_certificates(lab, alive, timeout))
        backends = ask_backends(machine for machine in alive if "backend" in lab.services_of(machine))
        machines = ask_machines(alive, timeout)
        wait([consul, *vaults.values(), cluster, postgresql, shown, *pages.values(), *backends.values()])
        if time.monotonic() - began > FRESH:
            backends |= ask_backends(lab.machine(name) for name in good(backends))
            pages |= ask_pages(good(pages))
    lines = judge_machines(lab.machines, running, machines)
    playbook = f"LAB_NAME={lab.name} .venv/bin/ansible-playbook -i {lab.inventory.replace(', ', ' -i ')}"
    lines += judge_consul(lab.machines, consul.result(), lab.others, playbook)
    vault_lines = judge_vault(control, {name: future.result() for name, future in vaults.items()})
    lines += vault_lines
    if any(line.state == "active" for line in vault_lines):
        lines += judge_voters(control, cluster.result())
        lines += judge_token(cluster.result())
    lines += judge_postgresql(lab.group("database"), postgresql.result())
    lines += judge_services(lab, consul.result())
    instances = {name: future.result() for name, future in backends.items()}
    lines += judge_backends(instances)
    shown_pages = {url: future.result() for url, future in pages.items()}
    lines += judge_pages(shown_pages, len(lab.group("backend")), refused_writes(instances))
    found = certificates.result()
    if found.error:
        lines.append(Line("Certificates", "files", "cannot be read", found.error, BAD))
    else:
        refused = judge_shown(shown.result().value or {})
        ours = judge_certificates(found.value, datetime.datetime.now(datetime.UTC))
        lines += refused + [line for line in ours if line.level != GOOD or not refused]
    return lines


def healthy(lines: Iterable[Line]) -> bool:
    """Whether nothing is bad; a warning is no reason for exit code 1."""
    return all(line.level != BAD for line in lines)


def verdict(lines: Sequence[Line]) -> str:
    """In a word. Degraded is what users of the page do not notice: something is bad, and others stand in for it."""
    if healthy(lines):
        return "healthy"
    return "unhealthy" if any(line.level == BAD and line.section == "Page" for line in lines) else "degraded"


def render(lab: Lab, lines: Sequence[Line], colour: bool) -> str:
    """The table."""

    def paint(text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if colour else text

    word = verdict(lines)
    word = paint(word, f"1;{COLOURS[VERDICTS[word]]}")
    out = [f"Lab {paint(lab.name, '1')}  {lab.network}  {word}"]
    wide = max(len(line.name) for line in lines)
    state = max(len(line.state) for line in lines)
    section = ""
    for line in lines:
        if line.section != section:
            section = line.section
            out += ["", paint(section, "1")]
        mark = paint(MARKS[line.level], COLOURS[line.level])
        out.append(f"  {mark} {line.name:<{wide}}  {line.state:<{state}}  {paint(line.detail, '2')}".rstrip())
    todo = [line for line in lines if line.level != GOOD and line.remedy]
    if todo:
        out += ["", paint("What to do", "1")]
        out += [f"  {line.name}: {line.remedy}" for line in todo]
    return "\n".join(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if healthy, 1 if not, 2 if it could not be asked at all."""
    parser = argparse.ArgumentParser(prog="make status", description="What the lab looks like; exit 1 if unhealthy.")
    parser.add_argument("-i", "--inventory", action="append", default=[], help="inventory, default as ansible.cfg says")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--timeout", type=float, help="seconds for each question (default 5, virtual machines 15)")
    parser.add_argument("--patience", type=float, default=0, help="seconds for what has just started to become healthy")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + options.patience
    try:
        lab = load(options.inventory)
        while not healthy(lines := collect(lab, options.timeout)) and time.monotonic() < deadline:
            time.sleep(1)
    except (LabError, RefusedError) as error:
        print(json.dumps({"healthy": False, "error": str(error)}) if options.json else error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    good = healthy(lines)
    if options.json:
        print(
            json.dumps(
                {
                    "lab": lab.name,
                    "healthy": good,
                    "verdict": verdict(lines),
                    "lines": [asdict(line) for line in lines],
                },
                indent=2,
            )
        )
    else:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        print(render(lab, lines, colour))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
