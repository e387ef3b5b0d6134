"""nginx serves what its caller's template says, under an account of its own, and never the package's page."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.running import Running, wait_until
from tools.lab import ROOT

pytestmark = [pytest.mark.journal("nginx@frontend"), pytest.mark.timeout(120)]
HOST = "frontend-1"


def answer(running: Running) -> str:
    """What it says, by the machine's own client: its certificate bears the service's name."""
    ask = "curl -sS -m 5 --cacert /etc/nginx/tls/ca.pem --resolve frontend.service.consul:443:127.0.0.1"
    return running.sh(HOST, f"{ask} https://frontend.service.consul/")


def converge(running: Running, **options: Any) -> int:
    """Run the role again with options of the template."""
    return running.playbook("--extra-vars", json.dumps(options), str(ROOT / "molecule/nginx/converge.yml")).code


def test_it_serves_what_the_template_says(running: Running) -> None:
    assert wait_until(lambda: answer(running), 30, "it serves after the reboot") == "hello"


def test_a_killed_nginx_returns(running: Running, kill: Callable[[str, str], None]) -> None:
    kill(HOST, "nginx")
    assert wait_until(lambda: answer(running), 10, "it serves again") == "hello"


def test_a_configuration_that_nginx_refuses_changes_nothing(running: Running) -> None:
    assert converge(running, nginx_test_answer='"; nonsense "') != 0
    assert answer(running) == "hello"
    running.sh(HOST, "nginx -t -q -g 'pid /dev/null;'")


def test_another_configuration_needs_no_restart(running: Running) -> None:
    pid = running.sh(HOST, "systemctl show -P MainPID nginx")
    assert converge(running, nginx_test_answer="something else") == 0
    assert answer(running) == "something else"
    assert converge(running) == 0
    assert answer(running) == "hello"
    assert running.sh(HOST, "systemctl show -P MainPID nginx") == pid


def test_only_its_port_is_open(running: Running, listening: Callable[[str], set[str]]) -> None:
    assert {place.rpartition(":")[2] for place in listening(HOST)} == {"22", "443"}
    assert running.sh(HOST, "systemctl is-enabled nginx").strip() == "enabled"


def test_no_process_of_it_is_roots_and_its_key_is_for_nobody_else(running: Running) -> None:
    users = running.sh(HOST, "ps -o user= -p $(systemctl show -P MainPID nginx) $(pgrep nginx)").split()
    assert set(users) == {"www-data"}
    assert running.sh(HOST, "stat -c '%a %U %G' /etc/nginx/tls/nginx.key").split() == ["640", "root", "www-data"]


def test_the_unit_is_hardened(running: Running, exposure: Callable[[str, str], float]) -> None:
    assert exposure(HOST, "nginx.service") <= 2
    limits = running.sh(HOST, "systemctl show -P LimitCORE -P MemoryMax nginx").split()
    assert set(limits) == {"0", str(128 * 2**20)}


def test_wrong_options_are_refused_with_a_sentence(refuses: Callable[..., str]) -> None:
    assert "argument 'nginx_low_ports' is of type str" in refuses(nginx_low_ports="some")
