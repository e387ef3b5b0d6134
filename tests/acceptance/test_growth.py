"""The lab grows by a line of inventory, and forgets a machine without a trace."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.running import GROWTH, Running, wait_until
from tools.failures.watch import Names

NAME = "backend-3"
SERVICE = "backend.service.consul"
# A database user of backend-3-2.
LIKE = f"v-{NAME}-2-AbCdEfGhIjKl"


def traces(running: Running) -> dict[str, object]:
    """What Consul, Vault and PostgreSQL, the controller and this computer still know of the machine."""
    vault = running.lab.vault()
    found: dict[str, object] = {
        "node": [node["Node"] for node in consul(running, "catalog/nodes") if node["Node"] == NAME],
        "member": [member["Name"] for member in consul(running, "agent/members") if member["Name"] == NAME],
        "consul tokens": [
            token["Description"] for token in consul(running, "acl/tokens") if token["Description"].endswith(f"/{NAME}")
        ],
    }
    for kind, path in {
        "approle": "auth/approle/role",
        "database role": "database/roles",
        "policy": "sys/policies/acl",
        "leases": "sys/leases/lookup/database/creds",
    }.items():
        listed = vault.list(path)
        found[kind] = [key for key in (listed["data"]["keys"] if listed else []) if NAME in key]
    entities = vault.list("identity/entity/name")
    found["entities"] = [key for key in (entities["data"]["keys"] if entities else []) if NAME in key]
    found["vault tokens"] = [
        accessor
        for accessor in vault.list("auth/token/accessors")["data"]["keys"]
        if NAME in token_text(vault, accessor)
    ]
    found["database users"] = running.sql(f"select rolname from pg_roles where rolname like 'v-{NAME}-%'").split()
    found["secrets"] = [name for name in running.lab.secrets() if name.endswith(f"/{NAME}")]
    found["files"] = [str(path) for path in running.lab.directory.rglob(f"*{NAME}*")]
    return {kind: value for kind, value in found.items() if value}


def consul(running: Running, path: str) -> list[dict[str, str]]:
    """A list of Consul's API, with the management token."""
    address = running.lab.group("control")[0].address
    token = {"X-Consul-Token": running.lab.secrets()["consul_management"]}
    answer = running.lab.get(f"https://{address}:8501/v1/{path}", headers=token)
    answer.raise_for_status()
    listed: list[dict[str, str]] = answer.json()
    return listed


def token_text(vault: object, accessor: str) -> str:
    """Display name and metadata of a token; empty if it has ended."""
    try:
        data = vault.auth.token.lookup_accessor(accessor)["data"]  # type: ignore[attr-defined]
    except Exception:
        return ""
    return f"{data.get('display_name')} {data.get('meta')} {data.get('policies')}"


def asked_last(running: Running) -> int:
    """How many instances are asked where Consul holds all for sick."""
    return len(running.sh(running.names("frontend")[0], "dig +short backend.query.consul").split())


def grow(running: Running, *arguments: str) -> None:
    """Add backend-3, as a line of inventory would."""
    run = running.playbook("site.yml", *arguments, inventory=[*running.inventory, str(GROWTH)]).require()
    print(f"added {NAME} in {run.seconds:.0f} s")
    backends = len(running.names("backend"))
    wait_until(lambda: running.count() == backends + 1, 20, "the page's API counts one more")
    wait_until(lambda: asked_last(running) == backends + 1, 5, "the name of all instances leads to one more")
    assert NAME in running.lab.get(f"{running.page}/").text


def end_of(address: str) -> float:
    """When a machine takes no more connections."""

    def ended() -> float:
        try:
            socket.create_connection((address, 8443), timeout=0.5).close()
        except OSError:
            return time.monotonic()
        return 0

    return wait_until(ended, 60, f"{address} ends", every=0.02)


@pytest.mark.late(7)
@pytest.mark.journal("backend@backend", "consul@control")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("arguments", "line_gone_first"),
    [((), False), (("--limit", f"{NAME},database"), True)],
    ids=["whole run, line kept", "limited run, line gone first"],
)
def test_a_backend_comes_and_goes(running: Running, arguments: tuple[str, ...], line_gone_first: bool) -> None:
    assert asked_last(running) == len(running.names("backend"))
    grow(running, *arguments)
    assert set(traces(running)) >= {"node", "consul tokens", "approle", "database users"}
    inventory = running.inventory if line_gone_first else [*running.inventory, str(GROWTH)]
    # A user whose lease was lost goes too; one of a machine whose name only begins alike does not.
    for user in (f"v-{NAME}-LostLease123", LIKE):
        running.sql(f'drop role if exists "{user}"; create role "{user}"')
    # Nobody has run anything for longer than the administrator's token lives.
    running.lab.vault().auth.token.revoke_self()
    frontend = running.names("frontend")[0]
    address = running.sh(frontend, f"dig +short {NAME}.node.consul").strip()
    names = Names(running, frontend, [SERVICE])
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(end_of, address)
        removal = running.playbook("playbooks/remove.yml", "-e", f"machine={NAME}", inventory=inventory).require()
    left = names.stop()[-1]
    assert removal.changed
    print(f"its address left DNS {ended.result() - left[0]:.1f} s before its machine ended")
    assert left[0] + 1 < ended.result(), "nginx remembers an address for a second"
    wait_until(lambda: running.count() == len(running.names("backend")), 10, "the page's API counts one less")
    assert NAME not in running.lab.get(f"{running.page}/").text
    assert asked_last(running) == len(running.names("backend"))
    assert running.sql(f"select rolname from pg_roles where rolname like 'v-{NAME}-%'").split() == [LIKE]
    running.sql(f'drop role "{LIKE}"')
    assert traces(running) == {}
    again = running.playbook("playbooks/remove.yml", "-e", f"machine={NAME}", inventory=running.inventory).require()
    assert again.changed == {}, again.output[-4000:]
    assert "nothing to remove" in again.output.lower()
    running.wait_healthy(20)
