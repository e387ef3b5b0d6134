"""When a Consul agent may be restarted, and when it is back."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
from ansible_collections.hashistack.lab.plugins.module_utils.http_api import RequestError

from plugins.modules import consul_restart
from plugins.modules.consul_restart import caught_up, keep_minimum, unready, wait

SERVERS = ["a", "b", "c"]


def test_examples_in_docstrings_hold() -> None:
    result = doctest.testmod(consul_restart)
    assert (result.attempted > 0, result.failed) == (True, 0)


@pytest.mark.parametrize(
    ("voters", "healthy", "problem"),
    [
        ("abc", True, ""),
        ("abc", False, "not every server is healthy"),
        ("ab", True, "c has no vote"),
        ("abcd", True, "d has a vote, and is none of the servers"),
    ],
)
def test_a_server_is_restarted_only_when_all_are_there(voters: str, healthy: bool, problem: str) -> None:
    health = {"Healthy": healthy, "Servers": [{"Name": name, "Voter": name in voters} for name in "abcd"]}
    assert unready(health, SERVERS) == problem


def test_a_server_is_back_when_it_has_applied_what_is_committed() -> None:
    raft = {"state": "Follower", "last_contact": "0s", "applied_index": "7", "commit_index": "7"}
    assert caught_up({"Stats": {"raft": raft}})
    for late in ({"state": "Candidate"}, {"last_contact": "never"}, {"applied_index": "6"}):
        assert not caught_up({"Stats": {"raft": {**raft, **late}}})


def test_waiting_ends_with_what_was_last_wrong() -> None:
    def refused() -> str:
        raise RequestError("connection refused")

    assert wait(refused, 0) == "connection refused"
    assert wait(lambda: "", 0) == ""


def test_autopilot_keeps_the_number_of_servers() -> None:
    sent: list[Any] = []

    def api(path: str, method: str = "GET", data: Any = None) -> Any:
        assert path == "operator/autopilot/configuration"
        sent.append((method, data))
        return {"MinQuorum": 1, "CleanupDeadServers": True}

    keep_minimum(api, 3)
    assert sent[1:] == [("PUT", {"MinQuorum": 3, "CleanupDeadServers": True})]
    sent.clear()
    keep_minimum(api, 1)
    assert [method for method, _ in sent] == ["GET"]
