"""What the vault_* modules ask of Vault, and what they keep on the controller, also when they are cut off."""

from __future__ import annotations

import base64
import doctest
import json
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.hashistack.lab.plugins.module_utils.vault_client import VaultError

from plugins.modules import vault_administrator, vault_approle, vault_initialise, vault_objects, vault_restart

URL = "https://192.0.2.11:8200"


class FakeVault:
    """Answers of Vault by method and path; remembers what was written."""

    def __init__(self, answers: dict[str, dict[str, Any]] | None = None) -> None:
        self.answers = answers or {}
        self.written: list[tuple[str, str, Any]] = []
        self.token = ""
        self.urls = [URL]
        self.timeout = 0.0

    def request(self, method: str, path: str, data: Any = None) -> dict[str, Any]:
        if method not in ("GET", "LIST"):
            self.written.append((method, path, data))
        return self.answers.get(f"{method} {path}", {})

    def read(self, path: str) -> dict[str, Any] | None:
        return self.request("GET", path) or None

    def write(self, path: str, data: Any = None, *, wrap_ttl: str = "") -> dict[str, Any]:
        assert wrap_ttl in ("", "300s")
        return self.request("POST", path, data)

    def delete(self, path: str) -> None:
        self.request("DELETE", path)

    def list(self, path: str) -> list[str]:
        return list(self.request("LIST", path).get("data", {}).get("keys", []))


def wanted(path: str, **more: Any) -> dict[str, Any]:
    return {
        "path": path,
        "state": "present",
        "data": {},
        "write_only": [],
        "initial": [],
        "create_only": False,
        "force": False,
        **more,
    }


@pytest.mark.parametrize("module", [vault_objects, vault_administrator, vault_restart])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("want", "have", "field"),
    [
        ("24h", 86400, "max_ttl"),
        (["10.0.0.1/32"], ["10.0.0.1"], "token_bound_cidrs"),
        (["b", "a"], ["a", "b"], "token_policies"),
        ("a,b", ["a", "b"], "allowed_roles"),
        ({"version": "2"}, {"version": "2", "more": "x"}, "options"),
        ("", None, "description"),
        (0, 0, "secret_id_num_uses"),
    ],
)
def test_the_same_in_another_form_is_no_change(want: Any, have: Any, field: str) -> None:
    assert vault_objects.same(want, have, field)


@pytest.mark.parametrize(
    ("want", "have", "field"),
    [("1h", 7200, "ttl"), (["a"], ["a", "b"], "token_policies"), (["a", "b"], ["b", "a"], "creation_statements")],
)
def test_another_value_is_a_change(want: Any, have: Any, field: str) -> None:
    assert not vault_objects.same(want, have, field)


def test_a_new_role_is_written_and_an_equal_one_is_not() -> None:
    role = wanted("auth/approle/role/web", data={"token_period": "24h"})
    assert list(vault_objects.apply(FakeVault(), [role], check=False)) == ["auth/approle/role/web"]
    there = FakeVault({"GET auth/approle/role/web": {"data": {"token_period": 86400, "other": 1}}})
    assert vault_objects.apply(there, [role], check=False) == {}
    assert there.written == []


def test_check_mode_writes_nothing() -> None:
    vault = FakeVault()
    assert vault_objects.apply(vault, [wanted("auth/approle/role/web")], check=True)
    assert vault.written == []


def test_an_initial_password_is_not_sent_again() -> None:
    item = wanted("database/config/lab", data={"username": "v", "password": "p", "url": "b"}, initial=["password"])
    vault = FakeVault({"GET database/config/lab": {"data": {"connection_details": {"username": "v", "url": "a"}}}})
    assert vault_objects.apply(vault, [item], check=False) == {"database/config/lab": "differs in url"}
    assert vault.written == [("POST", "database/config/lab", {"username": "v", "url": "b"})]


def test_a_mount_is_tuned_and_its_type_is_never_changed() -> None:
    vault = FakeVault({"GET sys/mounts": {"data": {"db/": {"type": "database", "config": {"max_lease_ttl": 60}}}}})
    item = wanted("sys/mounts/db", data={"type": "database", "config": {"max_lease_ttl": "2m"}})
    vault_objects.apply(vault, [item], check=False)
    assert vault.written == [("POST", "sys/mounts/db/tune", {"max_lease_ttl": "2m"})]
    with pytest.raises(VaultError, match="is of type database, not kv"):
        vault_objects.apply(vault, [wanted("sys/mounts/db", data={"type": "kv"})], check=False)


def test_a_seed_never_overwrites() -> None:
    seed = wanted("secret/data/app", data={"greeting": "a"}, create_only=True)
    vault = FakeVault()
    vault_objects.apply(vault, [seed], check=False)
    assert vault.written == [("POST", "secret/data/app", {"data": {"greeting": "a"}, "options": {"cas": 0}})]
    used = FakeVault({"GET secret/metadata/app": {"data": {"current_version": 3}}})
    assert vault_objects.apply(used, [seed], check=False) == {}


def test_leases_are_revoked_where_there_are_any() -> None:
    item = wanted("database/creds/web", state="revoked")
    assert vault_objects.apply(FakeVault(), [item], check=False) == {}
    vault = FakeVault({"LIST sys/leases/lookup/database/creds/web": {"data": {"keys": ["abc"]}}})
    assert vault_objects.apply(vault, [item], check=False)
    assert vault.written == [("PUT", "sys/leases/revoke-prefix/database/creds/web", {"sync": True})]


NEW = {"initialized": False, "sealed": True}
SEALED = {"initialized": True, "sealed": True}
OPEN = {"initialized": True, "sealed": False}


@pytest.mark.parametrize(
    ("state", "nodes", "action"),
    [
        ({}, {"a": NEW, "b": NEW}, "initialise"),
        ({"intended": "x"}, {"a": NEW}, "initialise"),
        ({"keys": ["k"]}, {"a": NEW}, "initialise"),
        ({"keys": ["k"]}, {"a": OPEN, "b": None}, "none"),
        ({"keys": ["k"]}, {"a": NEW, "b": SEALED}, "none"),
        ({"intended": "x"}, {"a": SEALED, "b": NEW}, "reset"),
        ({}, {"a": NEW, "b": None}, "wait"),
    ],
)
def test_what_is_to_do_follows_from_the_file_and_the_nodes(state: Any, nodes: Any, action: str) -> None:
    assert vault_initialise.decide("init.json", state, nodes).action == action


@pytest.mark.parametrize(
    ("state", "node", "message"),
    [({}, SEALED, "its unseal keys are not in"), ({"intended": "x"}, OPEN, "Vault is in use")],
)
def test_a_vault_that_is_not_ours_is_an_error_with_its_remedy(state: Any, node: Any, message: str) -> None:
    with pytest.raises(VaultError, match=message):
        vault_initialise.decide("init.json", state, {"a": node})


def test_the_intent_is_on_disk_before_vault_is_asked_and_the_keys_right_after(tmp_path: Path) -> None:
    path = tmp_path / "vault" / "init.json"

    class Asked(FakeVault):
        def request(self, method: str, path_: str, data: Any = None) -> dict[str, Any]:
            assert "intended" in json.loads(path.read_text())
            assert (method, path_, data) == ("PUT", "sys/init", {"secret_shares": 2, "secret_threshold": 2})
            return {"keys_base64": ["a", "b"], "root_token": "r"}

    vault_initialise.initialise(Asked(), str(path), 2, 2)
    kept = json.loads(path.read_text())
    assert (kept["keys"], kept["root_token"], kept["threshold"]) == (["a", "b"], "r", 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_of_an_earlier_vault_are_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "init.json"
    path.write_text('{"keys": ["old"]}')
    vault = FakeVault({"PUT sys/init": {"keys_base64": ["new"], "root_token": "r"}})
    vault_initialise.initialise(vault, str(path), 1, 1)
    assert json.loads(path.read_text())["keys"] == ["new"]
    assert [json.loads(old.read_text())["keys"] for old in tmp_path.glob("init.json.*")] == [["old"]]


class Tokens(FakeVault):
    """A Vault that knows some tokens."""

    good = {"root"}

    def request(self, method: str, path: str, data: Any = None) -> dict[str, Any]:
        if path == "auth/token/lookup-self":
            if self.token not in self.good:
                raise VaultError("permission denied", 403)
            return {"data": {"id": self.token}}
        if path == "sys/generate-root/attempt":
            self.written.append((method, path, data))
            return {"required": 1, "nonce": "n", "otp": "abcd"}
        if path == "sys/generate-root/update":
            pad = bytes(one ^ other for one, other in zip(b"root", b"abcd", strict=True))
            return {"complete": True, "encoded_token": base64.b64encode(pad).decode().rstrip("=")}
        if path == "auth/token/create-orphan":
            self.written.append((method, path, data))
            return {"auth": {"client_token": "admin"}}
        return super().request(method, path, data)


def parameters(folder: Path) -> dict[str, Any]:
    return {
        "keys_file": str(folder / "init.json"),
        "token_file": str(folder / "token"),
        "policy": "administrator",
        "policy_rules": "rules",
        "period": "768h",
        "audit_devices": {"file": {"type": "file"}},
    }


def test_root_is_revoked_last_and_forgotten(tmp_path: Path) -> None:
    (tmp_path / "init.json").write_text('{"keys": ["k"], "root_token": "root"}')
    vault = Tokens()
    vault_administrator.run(vault, parameters(tmp_path), check=False)
    paths = [path for _, path, _ in vault.written]
    assert paths == [
        "sys/audit/file",
        "sys/policies/acl/administrator",
        "auth/token/create-orphan",
        "auth/token/revoke-self",
    ]
    assert (tmp_path / "token").read_text() == "admin\n"
    assert "root_token" not in json.loads((tmp_path / "init.json").read_text())


def test_an_expired_token_is_replaced_by_way_of_the_shares(tmp_path: Path) -> None:
    (tmp_path / "init.json").write_text('{"keys": ["k"]}')
    (tmp_path / "token").write_text("expired")
    vault = Tokens()
    vault_administrator.run(vault, parameters(tmp_path), check=False)
    assert ("PUT", "sys/generate-root/attempt", {}) in vault.written
    assert (tmp_path / "token").read_text() == "admin\n"
    assert "root_token" not in json.loads((tmp_path / "init.json").read_text())


def test_a_good_token_is_renewed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "init.json").write_text('{"keys": ["k"]}')
    (tmp_path / "token").write_text("root")
    vault = Tokens()
    assert vault_administrator.run(vault, parameters(tmp_path), check=False) == []
    assert [path for _, path, _ in vault.written] == ["auth/token/renew-self"]


def test_a_run_cut_off_before_the_revocation_revokes_in_the_next(tmp_path: Path) -> None:
    (tmp_path / "init.json").write_text('{"keys": ["k"], "root_token": "root"}')
    (tmp_path / "token").write_text("admin")
    vault = Tokens()
    vault.good = {"root", "admin"}
    assert vault_administrator.run(vault, parameters(tmp_path), check=False) == ["revoke the root token"]
    assert [path for _, path, _ in vault.written] == ["auth/token/renew-self", "auth/token/revoke-self"]


ROLE_ID = {"GET auth/approle/role/web/role-id": {"data": {"role_id": "r"}}}


def test_a_good_secret_id_stays_and_others_are_destroyed() -> None:
    vault = FakeVault({**ROLE_ID, "LIST auth/approle/role/web/secret-id": {"data": {"keys": ["mine", "old"]}}})
    result, actions = vault_approle.issue(vault, "approle", "web", "mine", "300s", check=False)
    assert result == {"role_id": "r", "wrapping_token": ""}
    assert actions == ["destroy 1 other SecretIDs of web"]
    assert vault.written == [
        ("POST", "auth/approle/role/web/secret-id-accessor/destroy", {"secret_id_accessor": "old"})
    ]


def test_a_machine_made_again_gets_a_wrapped_secret_id() -> None:
    answers = {**ROLE_ID, "POST auth/approle/role/web/secret-id": {"wrap_info": {"token": "w"}}}
    result, _ = vault_approle.issue(FakeVault(answers), "approle", "web", "", "300s", check=False)
    assert result["wrapping_token"] == "w"


def test_removing_a_machine_that_nobody_knows_is_no_change() -> None:
    assert vault_approle.remove(FakeVault(), "approle", "web", check=False) == []


SERVES = {"initialized": True, "sealed": False, "leader_address": "x", "raft_applied_index": 10}


def test_a_node_goes_only_when_the_others_are_a_quorum() -> None:
    assert vault_restart.missing({}, 10) == []
    assert vault_restart.missing({"b": SERVES, "c": SERVES}, 10) == []
    assert vault_restart.missing({"b": SERVES, "c": None}, 10) == ["c"]
    assert vault_restart.missing({"b": SERVES, "c": {**SERVES, "sealed": True}}, 10) == ["c"]
    assert vault_restart.missing({"b": SERVES, "c": SERVES}, 11) == ["b", "c"]
    assert vault_restart.missing({"b": SERVES, "c": SERVES, "d": SERVES, "e": None}, 10) == []
