"""Every check of the preflight says what is wrong and what to do."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lab_preflight", ROOT / "plugins/action/preflight.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["lab_preflight"] = module
    spec.loader.exec_module(module)
    return module


preflight = load()

TABLE = yaml.safe_load((ROOT / preflight.SERVICES).read_text(encoding="utf-8"))
KNOWN, SERVICES = TABLE["lab_groups"], TABLE["lab_services"]
GROUPS = {
    "control": ["control-1", "control-2", "control-3"],
    "database": ["database-1"],
    "backend": ["backend-1"],
    "frontend": ["frontend-1"],
    "lab": ["control-1", "control-2", "control-3", "database-1", "backend-1", "frontend-1"],
}


def test_a_good_inventory_has_no_problems() -> None:
    assert preflight.check_groups(GROUPS, KNOWN) == []


@pytest.mark.parametrize(
    ("group", "members", "expected"),
    [
        (
            "control",
            ["control-1", "control-2"],
            "needs an odd number, and more than 5 voters only slow it down: make it 1, 3 or 5",
        ),
        ("control", [f"control-{number}" for number in range(7)], "make it 1, 3 or 5"),
        ("control", [], "Group 'control' is empty"),
        ("database", [f"database-{number}" for number in range(4)], "makes each write wait: make it 1, 2 or 3."),
        ("backend", [], "Group 'backend' is empty: add at least one host to it, such as backend-1"),
        ("frontend", [], "Group 'frontend' is empty"),
        ("backend", ["frontend-1"], "frontend-1 is in the groups backend and frontend"),
        ("backend", ["stranger-1"], "stranger-1: not in group 'lab'"),
    ],
)
def test_groups(group: str, members: list[str], expected: str) -> None:
    groups = {**GROUPS, group: members}
    if "stranger-1" not in members:
        groups["lab"] = sorted({host for name in KNOWN for host in groups[name]})
    problems = preflight.check_groups(groups, KNOWN)
    assert len(problems) == 1
    assert expected in problems[0]


def test_services_name_groups_and_services_that_there_are() -> None:
    assert preflight.check_services(SERVICES, KNOWN) == []
    group, client = preflight.check_services({"web": {"group": "wbe", "serves": ["page", "web"]}}, ["web"])
    assert group.startswith("Service 'web' is of group 'wbe', which is none: write one of web into inventories/")
    assert client.startswith("Service 'web' serves 'page', which is no service")


@pytest.mark.parametrize("name", ["lab", "test", "a", "my-lab-2"])
def test_lab_names_that_are_right(name: str) -> None:
    assert preflight.check_lab_name(name) == []


@pytest.mark.parametrize("name", ["", "Lab", "-a", "a-", "2lab", "twelve-chars", "a_b", "a b", "a.b"])
def test_lab_names_that_are_wrong(name: str) -> None:
    assert "1 to 11 characters" in preflight.check_lab_name(name)[0]


def host(index: Any, address: Any = None) -> dict[str, Any]:
    return {"lab_index": index, "lab_address": address if address is not None else f"10.77.5.{index}"}


def test_addresses_in_order() -> None:
    assert preflight.check_addresses({"a": host(11), "b": host(12)}, "10.77.5.0/24") == []


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ({"a": host(11), "b": host(11)}, "b: lab_index 11 is a's already: write another, such as 12"),
        ({"a": host(1)}, "must be a number from 2 to 254"),
        ({"a": host(255)}, "must be a number from 2 to 254"),
        ({"a": host("eleven", "10.77.5.11")}, "lab_index is eleven"),
        ({"a": {"lab_address": ValueError("'lab_index' is undefined")}}, "a: lab_index is missing"),
        ({"a": {}}, "a: lab_index is missing: write 'lab_index: 11' under it"),
        ({"a": host(11, "10.9.9.11")}, "10.9.9.11 is outside lab_network 10.77.5.0/24"),
        ({"a": host(11, "ten")}, "'ten', which is no IP address"),
        ({"a": host(11), "b": host(12, "10.77.5.11")}, "b: lab_address 10.77.5.11 is a's already"),
    ],
)
def test_addresses(hosts: dict[str, dict[str, Any]], expected: str) -> None:
    problems = preflight.check_addresses(hosts, "10.77.5.0/24")
    assert len(problems) == 1
    assert expected in problems[0]


def test_a_network_that_is_none() -> None:
    assert "Write a network such as" in preflight.check_addresses({}, "10.77.5.1/24")[0]


def test_unknown_options_name_the_nearest() -> None:
    known = {"consul_raft_multiplier", "vault_agent_log_level", "lab_name"}
    problems = preflight.check_options(
        {
            "consul_raft_multiplyer": ["a"],
            "consul_raft_multiplier": ["a"],
            "lab_nam": ["a", "b"],
            "vault_zzz": ["a"],
            "mine": ["a"],
        },
        known,
        ["consul", "vault", "vault_agent", "lab"],
    )
    assert problems == [
        "Unknown option 'consul_raft_multiplyer' (set for a): did you mean 'consul_raft_multiplier'?",
        "Unknown option 'lab_nam' (set for a, b): did you mean 'lab_name'?",
        "Unknown option 'vault_zzz' (set for a): see the README of the role, or remove it.",
    ]


def test_an_option_where_its_role_does_not_run() -> None:
    options = {"backend_threads": "backend", "vault_agent_log_level": "vault_agent", "consul_log_level": "consul"}
    own = {"backend-1": list(options), "frontend-1": ["consul_log_level", "lab_index", "backend_threads"]}
    assert preflight.check_owners(own, options, GROUPS, SERVICES) == [
        "backend_threads has no effect on frontend-1: role backend runs on the machines of group backend. Move it "
        "there, or remove it."
    ]


def test_an_option_that_group_vars_overrides() -> None:
    problems = preflight.check_group_vars(
        {"lab": {"lab_machines": "containers", "lab_domain": "x"}, "control": {"consul_domain": "y"}},
        {"lab_domain", "consul_domain"},
    )
    assert problems == [
        "lab_domain has no effect in the vars of group 'lab', since inventories/group_vars sets it and wins: write it "
        "into inventories/group_vars/lab/.",
        "consul_domain has no effect in the vars of group 'control', since inventories/group_vars sets it and wins: "
        "write it into inventories/group_vars/control.yml.",
    ]


def test_an_option_of_the_whole_lab_that_machines_know_differently() -> None:
    assert preflight.check_whole_lab({"lab_domain": {"a": "x", "b": "x"}, "lab_name": {}}) == []
    assert preflight.check_whole_lab({"lab_domain": {"a": "x", "b": "y", "c": "x"}}) == [
        "lab_domain is 'x' for a, c and 'y' for b, but the whole lab has one: write it into "
        "inventories/group_vars/lab/, and nowhere else."
    ]


def test_used_names_are_those_that_are_read() -> None:
    text = """
    # vault_comment
    vault_set: 1
    - lab_item: "{{ lab_read }}"  # lab_trailing
      when: backend_size > 2
      other: "{{ consul_a | default(consul_b) }}"
    """
    assert preflight.used_names(text, ["vault", "lab", "backend", "consul"]) == {
        "lab_read",
        "backend_size",
        "consul_a",
        "consul_b",
    }


def test_choices() -> None:
    choices = {"backend_db_credentials": ["dynamic", "kv"], "backend_list": ["a", "b"]}
    assert preflight.check_choices({"backend_db_credentials": {"x": "kv"}, "backend_list": {"x": ["a"]}}, choices) == []
    problems = preflight.check_choices({"backend_db_credentials": {"x": "dynamc", "y": "dynamc"}}, choices)
    assert problems == [
        "backend_db_credentials is 'dynamc' (for x, y), but it must be one of dynamic, kv (did you mean 'dynamic'?)."
    ]


def test_programs(tmp_path: Path) -> None:
    consul = tmp_path / "consul"
    assert "run 'make prepare'" in preflight.check_programs({"consul": str(consul)}, [])[0]
    consul.touch(mode=0o755)
    assert preflight.check_programs({"consul": str(consul), "plugin": ""}, ["sh"]) == []
    assert "lacks the command no-such-thing: run 'make prepare'" in preflight.check_programs({}, ["no-such-thing"])[0]


ADDRESS = [{"ifname": "eth0", "addr_info": [{"family": "inet", "local": "10.77.5.9", "prefixlen": 24}]}]


def test_network_in_use() -> None:
    assert preflight.check_network("10.77.5.0/24", "lab0", [], []) == []
    assert (
        "in use on the controller (eth0: 10.77.5.0/24)" in preflight.check_network("10.77.5.0/24", "x", ADDRESS, [])[0]
    )
    # Not -e: status and every later run must know it too.
    assert "into inventories/group_vars/lab/lab.yml" in preflight.check_network("10.77.5.0/24", "x", ADDRESS, [])[0]
    route = [{"dst": "10.77.4.0/22", "dev": "tun0"}]
    assert "tun0: 10.77.4.0/22" in preflight.check_network("10.77.5.0/24", "x", [], route)[0]


def test_network_of_our_own_bridge_or_the_whole_internet_is_no_conflict() -> None:
    routes = [
        {"dst": "10.77.5.0/24", "dev": "eth0"},
        {"dst": "default", "dev": "wan"},
        {"dst": "0.0.0.0/1", "dev": "v"},
    ]
    assert preflight.check_network("10.77.5.0/24", "eth0", ADDRESS, routes) == []


def test_privilege() -> None:
    assert preflight.check_privilege(0, None, False, False) == []
    assert preflight.check_privilege(1000, "/usr/bin/sudo", True, False) == []
    assert preflight.check_privilege(1000, "/usr/bin/sudo", False, True) == []
    assert "ansible-playbook -K" in preflight.check_privilege(1000, "/usr/bin/sudo", False, False)[0]
    assert "there is no sudo" in preflight.check_privilege(1000, None, False, False)[0]


def test_platform() -> None:
    assert preflight.check_platform("linux") == []
    assert "needs Linux" in preflight.check_platform("darwin")[0]


def test_capacity() -> None:
    assert preflight.check_capacity(7, True, 4096, 9000, "/x") == []
    memory, disk = preflight.check_capacity(7, True, 1024, 100, "/x")
    assert "7 machines to start need about 3150 MiB of memory, 1024 MiB are free" in memory
    assert "3072 MiB of disk at /x, 100 MiB are free" in disk
    assert preflight.check_capacity(0, False, 10, 10, "/x") == []


def test_report_numbers_the_problems() -> None:
    assert preflight.report(["a.", "b."]) == "2 problems found, nothing was changed:\n  1. a.\n  2. b."


def test_two_labs_whose_machines_would_have_the_same_name(tmp_path: Path) -> None:
    for machine in ("lab/backend-1", "lab/web-1", "lab-web/1"):
        (tmp_path / machine).mkdir(parents=True)
    (tmp_path / "lab" / "owner.json").touch()
    others = preflight.other_labs(str(tmp_path / "lab-web"))
    assert {name: sorted(machines) for name, machines in others.items()} == {"lab": ["backend-1", "web-1"]}
    (problem,) = preflight.check_machine_names("lab-web", ["1", "2"], others)
    assert problem.startswith(
        "1: on this computer it would be named lab-web-1, as web-1 of lab 'lab' is: choose another"
    )
    assert preflight.check_machine_names("lab", ["backend-1"], {"test": ["backend-1"]}) == []
    assert preflight.other_labs(str(tmp_path / "none" / "lab")) == {}


def test_addresses_of_machines_that_exist_already() -> None:
    assert preflight.check_own_addresses({"a": "192.0.2.1", "b": "198.51.100.1"}) == []
    unknown, twice = preflight.check_own_addresses({"a": "web1.example.org", "b": "192.0.2.1", "c": "192.0.2.1"})
    assert unknown.startswith("a: its address is not known: write 'ansible_host: ADDRESS' on its line")
    assert twice == "c: 192.0.2.1 is b's already: each machine needs its own."


def test_names_of_machines() -> None:
    assert preflight.check_host_names(["web-1", "7"]) == []
    assert preflight.check_host_names(["Web1.example.org"]) == [
        "'Web1.example.org' is no name for a machine: write one of lower-case letters, digits and '-', such as "
        "'web1-example-org: { ansible_host: Web1.example.org }'."
    ]
