"""What the consul_acl module asks of Consul to bring its tokens and policies to what is declared."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import pytest

from plugins.filter.consul import consul_tokens, with_secrets
from plugins.modules import consul_acl
from plugins.modules.consul_acl import (
    accessor_id,
    plan_policies,
    plan_queries,
    plan_tokens,
    wait_for_servers,
    wanted_token,
)

SECRET = "11111111-1111-4111-8111-111111111111"


def declared(name: str, **rights: list[str]) -> dict[str, Any]:
    empty: dict[str, Any] = {"policies": [], "services": [], "nodes": [], "templates": []}
    return {"name": name, "secret_id": SECRET, **empty, **rights}


def as_consul_lists(token: dict[str, Any]) -> dict[str, Any]:
    """The token in the form in which Consul lists it: without what is empty, with what Consul adds."""
    listed = {key: value for key, value in wanted_token(token, "dc1").items() if value}
    for policy in listed.get("Policies", []):
        policy["ID"] = str(uuid.uuid4())
    for template in listed.get("TemplatedPolicies", []):
        template["TemplateID"] = str(uuid.uuid4())
    return {**listed, "CreateIndex": 7, "Hash": "x", "Local": False}


EVERY_KIND = [
    declared("agent/a", nodes=["a"]),
    declared("dns/lab", templates=["builtin/dns"]),
    declared("web/a", services=["web", "web-admin"]),
    declared("read/a", policies=["read"]),
]


def test_missing_tokens_are_made_with_their_secrets() -> None:
    changes = plan_tokens([], EVERY_KIND, [], "dc1")
    assert [(change.kind, change.method, change.path) for change in changes] == [("created", "PUT", "acl/token")] * 4
    assert changes[0].body is not None
    assert changes[0].body["SecretID"] == SECRET
    assert changes[0].body["AccessorID"] == accessor_id("agent/a")
    assert changes[0].body["NodeIdentities"] == [{"NodeName": "a", "Datacenter": "dc1"}]


def test_a_second_run_changes_nothing() -> None:
    assert plan_tokens([as_consul_lists(token) for token in EVERY_KIND], EVERY_KIND, [], "dc1") == []


@pytest.mark.parametrize(
    "tampering",
    [
        {"Policies": [{"ID": "1", "Name": "global-management"}]},
        {"Roles": [{"ID": "1", "Name": "admin"}]},
        {"ServiceIdentities": [{"ServiceName": "web", "Datacenters": ["dc2"]}, {"ServiceName": "web-admin"}]},
        {"NodeIdentities": [{"NodeName": "b", "Datacenter": "dc1"}]},
        {"Description": "something else"},
    ],
)
def test_rights_changed_by_hand_are_put_right(tampering: dict[str, Any]) -> None:
    token = declared("web/a", services=["web", "web-admin"])
    (change,) = plan_tokens([{**as_consul_lists(token), **tampering}], [token], [], "dc1")
    assert (change.kind, change.path) == ("updated", f"acl/token/{accessor_id('web/a')}")
    assert change.body is not None
    assert change.body["Policies"] == []


def test_a_new_secret_makes_the_token_anew() -> None:
    token = declared("web/a", services=["web"])
    existing = {**as_consul_lists(token), "SecretID": str(uuid.uuid4())}
    assert [change.method for change in plan_tokens([existing], [token], [], "dc1")] == ["DELETE", "PUT"]


def test_only_own_tokens_that_nobody_wants_are_deleted() -> None:
    gone, kept = declared("web/b"), declared("web/a")
    foreign = {"AccessorID": str(uuid.uuid4()), "SecretID": SECRET, "Description": "web/b"}
    existing = [as_consul_lists(gone), as_consul_lists(kept), foreign]
    (change,) = plan_tokens(existing, [kept], ["*/b", "*/a"], "dc1")
    assert (change.kind, change.label, change.path) == (
        "deleted",
        "token web/b",
        f"acl/token/{accessor_id('web/b')}",
    )


def test_policies() -> None:
    policy = {"name": "read", "description": "", "rules": "x"}
    listed = {"ID": "1", "Name": "read", "Description": "", "Rules": "x"}
    assert [change.kind for change in plan_policies({}, [policy])] == ["created"]
    assert plan_policies({"read": listed}, [policy]) == []
    (change,) = plan_policies({"read": {**listed, "Rules": "y"}}, [policy])
    assert (change.kind, change.path) == ("updated", "acl/policy/1")


def test_queries() -> None:
    query = {"name": "web", "service": "web", "ignored_checks": ["serfHealth"]}
    service = {"Service": "web", "IgnoreCheckIDs": ["serfHealth"], "OnlyPassing": False, "Tags": None}
    listed = {"ID": "1", "Name": "web", "Service": service, "DNS": {"TTL": ""}, "Token": ""}
    (change,) = plan_queries([{**listed, "Name": "other"}], [query])
    assert (change.kind, change.method, change.path) == ("created", "POST", "query")
    assert plan_queries([listed], [query]) == []
    (change,) = plan_queries([{**listed, "Service": {**service, "IgnoreCheckIDs": None}}], [query])
    assert (change.kind, change.method, change.path) == ("updated", "PUT", "query/1")
    assert (
        plan_queries([{**listed, "Service": {**service, "IgnoreCheckIDs": None}}], [{**query, "ignored_checks": []}])
        == []
    )


def test_waiting_ends_with_the_last_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 10)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    calls = []

    def attempt() -> Any:
        calls.append(1)
        raise consul_acl.UnavailableError("no leader")

    with pytest.raises(consul_acl.UnavailableError, match="no leader"):
        wait_for_servers(attempt, 30)
    assert len(calls) == 3


def test_the_table_of_services_becomes_tokens() -> None:
    services: dict[str, dict[str, Any]] = {
        "agent": {"group": "lab", "tokens": {"agent": {"node": True}}},
        "dnsmasq": {"group": "lab"},
        "web": {"group": "none", "tokens": {"web": {"services": ["web"]}}},
    }
    tokens = consul_tokens(services, {"lab": ["a", "b"]})
    assert [(token["name"], token["nodes"]) for token in tokens] == [("agent/a", ["a"]), ("agent/b", ["b"])]
    (first, _) = with_secrets(tokens, {"consul_token/agent/a": "1", "consul_token/agent/b": "2"})
    assert first["secret_id"] == "1"
    assert "secret" not in first
