"""Any program of the host resolves the lab's names, and those that it resolved before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.running import Running, wait_until

pytestmark = pytest.mark.journal("dnsmasq@frontend", "systemd-resolved@resolved-1")
ASKING = ("plain-1", "resolved-1")


@pytest.mark.parametrize("name", ASKING)
def test_names_of_the_domain_come_from_its_own_server(running: Running, name: str) -> None:
    assert running.sh(name, "getent hosts inside.consul").split()[0] == "192.0.2.86"


@pytest.mark.parametrize("name", ASKING)
def test_other_names_resolve_as_before(running: Running, name: str) -> None:
    assert running.sh(name, "getent hosts outside.example").split()[0] == "192.0.2.53"


@pytest.mark.parametrize("name", ASKING)
def test_programs_that_ask_a_server_themselves_get_both(running: Running, name: str) -> None:
    answers = running.sh(name, "dig +short +search inside.consul outside.example").split()
    assert answers == ["192.0.2.86", "192.0.2.53"]


def test_systemd_resolved_stays_in_charge(host: Callable[[str], Any]) -> None:
    assert host("resolved-1").service("systemd-resolved").is_running
    assert host("resolved-1").file("/etc/resolv.conf").is_symlink


@pytest.mark.parametrize("name", ASKING)
def test_only_the_host_itself_is_served(listening: Callable[[str], set[str]], name: str) -> None:
    assert not [place for place in listening(name) if place.endswith((":53", ":5355"))]


def test_a_killed_dnsmasq_is_back_at_once(running: Running, kill: Callable[[str, str], None]) -> None:
    kill("plain-1", "dnsmasq")
    wait_until(lambda: running.sh("plain-1", "getent hosts inside.consul"), 5, "names resolve again")


@pytest.mark.parametrize("name", ASKING)
def test_the_unit_is_hardened(exposure: Callable[[str, str], float], name: str) -> None:
    assert exposure(name, "dnsmasq.service") <= 2


def test_a_wrong_option_is_refused_with_a_sentence(refuses: Callable[..., str]) -> None:
    assert "dnsmasq_domains maps domains to ADDRESS#PORT" in refuses(dnsmasq_domains={"consul": "one.example"})
    assert "argument 'dnsmasq_domains' is of type str" in refuses(dnsmasq_domains="consul")
