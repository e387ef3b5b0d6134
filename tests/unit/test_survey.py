"""What is asked of machines that exist already follows from the table of services."""

from __future__ import annotations

import os
import re
import shutil
import time
from typing import Any

import pytest
import yaml

from plugins.filter.survey import machine_roles, ports, reach_targets, survey_problems
from plugins.modules import host_survey
from tools.lab import ROOT
from tools.preparing.programs import ARCHITECTURES

SERVICES = yaml.safe_load((ROOT / "inventories/group_vars/lab/services.yml").read_text(encoding="utf-8"))[
    "lab_services"
]
GROUPS = {
    "lab": ["c", "d", "b", "f"],
    "control": ["c"],
    "database": ["d"],
    "backend": ["b"],
    "frontend": ["f"],
}
HOSTVARS: dict[str, dict[str, Any]] = {
    name: {"lab_address": f"192.0.2.{number}", "__survey": {"problems": [], "claimed": False}}
    for number, name in enumerate(GROUPS["lab"], 1)
}


def ways(host: str, hostvars: dict[str, dict[str, Any]] = HOSTVARS) -> set[str]:
    """Where a machine must come to, as ``name:port``."""
    found = reach_targets(SERVICES, host, GROUPS, hostvars, GROUPS["lab"])
    return {f"{target['name']}:{target['port']}{'u' if target['udp'] else ''}" for target in found}


def test_ports_and_roles_of_a_machine() -> None:
    assert ports(SERVICES, ["control"]) == [8200, 8201, 8300, 8301, 8501]
    assert ports(SERVICES, ["frontend"]) == [80, 443, 8301]
    assert machine_roles(SERVICES, ["backend"]) == ["backend", "consul", "dnsmasq", "nginx", "vault_agent"]


def test_ways_between_machines() -> None:
    gossip = {f"{name}:8301{kind}" for name in "cdbf" for kind in ("", "u")}

    def but(host: str) -> set[str]:
        return {way for way in gossip if not way.startswith(host)}

    assert ways("f") == but("f") | {"c:8300", "b:8443"}
    assert ways("b") == but("b") | {"c:8300", "c:8200", "d:5432"}
    assert ways("c") == but("c") | {"d:5432"}
    assert ways("d") == but("d") | {"c:8300"}
    assert ways("") == {"c:8200", "c:8501", "f:443"}


def test_what_does_not_listen_is_not_asked() -> None:
    assert ways("", {**HOSTVARS, "f": {"lab_address": "", "__survey": {"problems": ["full"]}}}) == {"c:8200", "c:8501"}
    assert ways("", {**HOSTVARS, "f": {"lab_address": "", "__survey": {"unreachable": True}}}) == {"c:8200", "c:8501"}


def test_a_machine_that_lets_nobody_in_is_a_problem_among_the_others() -> None:
    found = survey_problems(
        {
            "a": {"__survey": {"problems": ["a: full."]}, "__reach": {"problems": ["a does not reach c."]}},
            "b": {"__survey": {"unreachable": True, "msg": "Permission denied\n(publickey)."}},
            "c": {"__survey": {"problems": []}, "__reach": {"skipped": True}},
        },
        ["a", "b", "c"],
        0,
    )
    assert [problem[:70] for problem in found] == [
        "a: full.",
        "b: Ansible does not get in as root (Permission denied (publickey).): s",
        "a does not reach c.",
    ]


def said(**wanted: Any) -> list[str]:
    """What the survey says of this very computer, but for what it says of it in any case."""

    def check(**changes: Any) -> list[str]:
        params = {
            "name": "here",
            "address": "127.0.0.1",
            "roles": [],
            "ports": [],
            "loopback_ports": [],
            "packages": [],
        }
        fit = {"loopback_ports": [], "memory": 1, "disk": 1, "now": time.time(), "releases": ["bookworm", "trixie"]}
        kind = {"architectures": [os.uname().machine]}
        return host_survey.check({**params, **fit, **kind, **changes}, claimed=False)

    usual = check()
    return [problem for problem in check(**wanted) if problem not in usual]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            {"memory": 4 * host_survey.memory_mib()},
            r"here: it has \d+ MiB of memory, and its services take \d+: give it more\.",
        ),
        (
            {"disk": shutil.disk_usage("/").total // host_survey.MEBIBYTE * 2},
            r"here: it has \d+ MiB of disk free, and needs \d+: make room, or give it more\.",
        ),
        (
            {"now": time.time() + 3600},
            r"here: its clock is 3\d\d\d s behind this computer's: set it, best by .*",
        ),
        (
            {"architectures": ["s390x", "ppc64le"]},
            r"here: there are no programs for its processor \(\w+\), only for s390x and ppc64le: .*",
        ),
        ({"address": "192.0.2.9"}, r"here: 192\.0\.2\.9 is none of its own addresses \(.*\): write the one .*"),
    ],
)
def test_what_a_machine_lacks_is_said_with_its_remedy(wanted: dict[str, Any], sentence: str) -> None:
    problems = said(**wanted)
    assert len(problems) == 1, problems
    assert re.fullmatch(sentence, problems[0]), problems


def test_a_clock_that_is_a_little_late_is_no_problem() -> None:
    assert said(now=time.time() + host_survey.CLOCK_SECONDS / 2) == []


def test_a_machine_that_answers_late_has_no_clock_that_is_ahead() -> None:
    assert said(now=time.time() - 3600) == []
    surveys = {name: {"problems": [], "clock": 5000.0 + seconds} for name, seconds in (("a", -9), ("b", 9), ("c", 99))}
    found = survey_problems({name: {"__survey": survey} for name, survey in surveys.items()}, ["a", "b", "c"], 5000.0)
    assert [problem[:50] for problem in found] == ["c: its clock is 99 s ahead of this computer's: set"]


def test_control_machines_are_of_one_kind_and_the_others_of_any() -> None:
    kinds = {"b": "aarch64", "c-1": "x86_64", "c-2": "aarch64", "c-3": "x86_64", "c-4": ""}
    hostvars: dict[str, dict[str, Any]] = {
        name: {
            "group_names": ["lab", "control" if name.startswith("c") else "backend"],
            "__survey": {"problems": [], "architecture": kind} if kind else {"problems": []},
        }
        for name, kind in kinds.items()
    }
    assert survey_problems(hostvars, list(kinds), 0) == [
        "c-2: its processor is of another kind (aarch64) than c-1's (x86_64): take control machines of one kind, since "
        "Vault knows each plugin by one checksum. Other machines may be of any."
    ]


def test_the_survey_lets_pass_what_there_are_programs_for() -> None:
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/survey.yml").read_text(encoding="utf-8"))
    asked = next(task["hashistack.lab.host_survey"] for task in tasks if "hashistack.lab.host_survey" in task)
    assert asked["architectures"] == list(ARCHITECTURES)
