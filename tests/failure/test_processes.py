"""Parts die, and the rest goes on."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.running import Running, Traffic, active, leader, primary, wait_until
from tools.failures.machines import TABLE, Containers, nft
from tools.failures.scene import BACKEND_NAME
from tools.failures.watch import Names
from tools.lab import CONSUL_PORT


@pytest.mark.late(10)
@pytest.mark.journal("consul@control", "nginx@frontend")
@pytest.mark.timeout(120)
def test_the_consul_leader_is_killed(running: Running) -> None:
    before = wait_until(lambda: leader(running), 10, "Consul has a leader")
    others = [machine for machine in running.lab.group("control") if machine.name != before]
    with Traffic(running, count=400, rate=20, seconds=20) as traffic:
        running.sh(before, "systemctl kill -s KILL consul")

        def writes() -> bool:
            return bool(running.lab.consul(others[0]).kv.put("test/leader", "x"))

        wait_until(writes, 15, "another server takes writes")
    traffic.require_no_failure(least=300)
    running.lab.consul(others[0]).kv.delete("test/leader")
    running.wait_healthy(60)


@pytest.mark.late(10)
@pytest.mark.journal("vault@control", "consul@control")
@pytest.mark.timeout(60)
def test_vault_says_again_which_node_is_active(running: Running) -> None:
    """It drops that word where it was just speaking to Consul, and its name led nowhere for a minute."""
    agent = running.lab.consul(running.lab.machine(active(running))).agent
    own, service = next(item for item in agent.services().items() if item[1]["Service"] == "vault")
    assert "active" in service["Tags"]
    agent.service.register("vault", service_id=own, address=service["Address"], port=service["Port"], tags=["standby"])
    wait_until(lambda: "active" in agent.services()[own]["Tags"], 10, "Vault has said it again")
    name = running.names("backend")[0]
    wait_until(lambda: running.sh(name, "getent ahostsv4 active.vault.service.consul"), 5, "its name leads there")


@pytest.mark.late(10)
@pytest.mark.journal("consul@backend", "dnsmasq@backend")
@pytest.mark.timeout(240)
def test_names_are_known_while_most_servers_of_consul_hang(running: Running) -> None:
    """Names that are in use: an agent asks its servers for one that nobody has asked it for in 20 minutes."""
    backends, hung = running.names("backend"), running.names("control")[1:]
    enough, asked = threading.Event(), threading.Barrier(4 * len(backends) + 1)

    def ask(name: str) -> tuple[float, int]:
        began = time.monotonic()
        code = running.attempt(name, "getent ahostsv4 postgresql.service.consul").returncode
        return time.monotonic() - began, code

    def slowest(name: str) -> tuple[float, int]:
        told = [ask(name)]
        asked.wait(30)
        while not enough.wait(0.1):
            told.append(ask(name))
        return max(seconds for seconds, _ in told[1:]), max(code for _, code in told)

    with ThreadPoolExecutor(4 * len(backends)) as pool:
        lookups = [(name, pool.submit(slowest, name)) for name in backends * 4]
        asked.wait(30)
        try:
            for name in hung:
                running.sh(name, "systemctl kill -s STOP consul")
            enough.wait(10)
        finally:
            enough.set()
            for name in hung:
                running.sh(name, "systemctl kill -s CONT consul")
        told = [(name, *lookup.result()) for name, lookup in lookups]
    assert all(seconds < 1 and code == 0 for _, seconds, code in told), told
    # An agent whose word on a check was lost with the leader says it again after two minutes at most.
    running.wait_healthy(150)


@pytest.mark.late(10)
@pytest.mark.journal("consul@control", "consul@backend")
@pytest.mark.timeout(180)
def test_consuls_servers_tell_nobody_of_the_past(running: Running) -> None:
    """One that starts goes through its log. Names that were away long ago, and are there, stay there meanwhile."""
    names, machines = [f"past-{number}" for number in range(8)], running.names("backend")
    servers = [f"https://{machine.address}:{CONSUL_PORT}/v1" for machine in running.lab.group("control")]
    token = {"X-Consul-Token": running.lab.secrets()["consul_management"]}  # By py-consul Consul refuses these calls.

    def live(name: str) -> None:
        with running.lab.session() as session:
            for number in range(400):
                away = number < 300 and number % 2 == 0
                check = {"Name": name, "ServiceID": name, "Status": "critical" if away else "passing"}
                entry = {"Node": "past", "Address": "192.0.2.1", "Service": {"Service": name}, "Check": check}
                session.put(f"{servers[0]}/catalog/register", json=entry, headers=token, timeout=10).raise_for_status()

    def those_times_are_past() -> bool:
        states = [running.lab.get(f"{server}/agent/self", headers=token).json()["Stats"]["raft"] for server in servers]
        return all(int(state["last_log_index"]) - int(state["last_snapshot_index"]) < 700 for state in states)

    try:
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(live, names))
        wait_until(those_times_are_past, 30, "Consul's servers have a snapshot that is younger")
        watches = [Names(running, machine, [f"{name}.service.consul" for name in names]) for machine in machines]
        try:
            wait_until(lambda: all(w.seen and all(w.seen[-1][1].values()) for w in watches), 10, "all names are there")
            known = [len(watch.seen) for watch in watches]
            running.each("control", "systemctl kill -s KILL consul")
            wait_until(lambda: not leader(running), 10, "the servers are away")
            running.wait_healthy(60)
            assert all(watch.process.poll() is None for watch in watches), "who asks for the names has ended early"
        finally:
            seen = [watch.stop() for watch in watches]
        told = [found for watch, count in zip(seen, known, strict=True) for _, found in watch[count:]]
        lost = [name for found in told for name in found if not found[name]]
        assert not lost, f"{len(lost)} times a name led nowhere, the first {lost[0]}"
    finally:
        url = f"{servers[0]}/catalog/deregister"
        running.lab.request("PUT", url, json={"Node": "past"}, headers=token).raise_for_status()


@pytest.mark.late(10)
@pytest.mark.journal("vault@control", "vault-agent@backend")
@pytest.mark.timeout(180)
def test_the_active_vault_is_killed(running: Running) -> None:
    before = wait_until(lambda: active(running), 10, "Vault has an active node")
    with Traffic(running, count=400, rate=20, seconds=20) as traffic:
        running.sh(before, "systemctl kill -s KILL vault")
        wait_until(lambda: active(running) not in ("", before), 30, "another node is active")
    traffic.require_no_failure(least=300)
    # It starts again, and unseals itself.
    running.wait_healthy(60)


def wait_for_another(running: Running, than: str) -> str:
    """Wait until another node of Vault is active; its machine."""
    return wait_until(lambda: active(running).replace(than, ""), 40, f"another node than {than} is active")


@pytest.mark.late(10)
@pytest.mark.journal("vault@control", "vault-agent@backend")
@pytest.mark.timeout(240)
def test_the_active_vault_hangs_that_was_asked_for_others(running: Running) -> None:
    """An agent keeps its connection, so after a step-down it asks a node that stands by, which asks the active one.

    That node is to take over although the active one answers nothing any more.
    """
    agents = running.names("backend")
    for _ in range(2):  # It may be the third node that takes over, which nobody asked for anything.
        for agent in agents:
            running.sh(agent, "systemctl restart vault-agent")
        running.wait_healthy(60)
        asked = wait_until(lambda: active(running), 20, "Vault has an active node")
        running.lab.vault(running.lab.machine(asked)).sys.step_down()
        hung = wait_for_another(running, asked)
        # Each agent reads every four seconds.
        time.sleep(5)
        try:
            began = time.monotonic()
            running.sh(hung, "systemctl kill -s STOP vault")
            wait_for_another(running, hung)
            seconds = time.monotonic() - began
        finally:
            running.sh(hung, "systemctl kill -s CONT vault")
        assert seconds < 10, f"{active(running)} was active {seconds:.1f} s after {hung} hung"
    running.wait_healthy(60)


@pytest.fixture
def hung(running: Running) -> Iterator[str]:
    """A backend whose processes are stopped in the middle of everything."""
    name = running.names("backend")[0]
    running.sh(name, "systemctl kill -s STOP backend")
    yield name
    running.sh(name, "systemctl kill -s CONT backend")


@pytest.mark.late(10)
@pytest.mark.journal("backend@backend", "nginx@frontend")
@pytest.mark.timeout(120)
def test_a_hung_backend_is_left_out(running: Running, hung: str) -> None:
    address = running.lab.machine(hung).address
    frontend = running.names("frontend")[0]
    with Traffic(running, count=200, rate=20, seconds=40) as traffic:
        wait_until(
            lambda: address not in running.sh(frontend, "dig +short backend.service.consul").split(),
            5,
            "the hung backend is out of DNS",
        )
    traffic.require_no_failure(least=150)


@pytest.mark.late(10)
@pytest.mark.journal("backend@backend", "nginx@backend", "nginx@frontend")
@pytest.mark.timeout(120)
def test_a_write_that_meets_a_hung_backend_is_one_write(running: Running, hung: str) -> None:
    """The next instance is asked, and the hung one does what it was asked when it goes on: it is the same note."""
    word = uuid.uuid4().hex

    def write(number: int) -> int:
        return running.api("notes", "POST", timeout=30, json={"text": f"{word} {number}"}).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(write, range(8)))
    running.sh(hung, "systemctl kill -s CONT backend")
    wait_until(lambda: running.backend(running.lab.machine(hung), "api/notes").status_code == 200, 15, "it goes on")
    assert codes == [201] * 8
    ours = f"FROM notes WHERE text LIKE '{word}%'"
    assert running.sql(f"SELECT count(*), count(DISTINCT text) {ours}") == "8|8"
    running.sql(f"DELETE {ours}")


@pytest.mark.late(11)
@pytest.mark.timeout(60)
def test_the_hung_backend_is_back_after_it_goes_on(running: Running) -> None:
    running.wait_healthy(30)


@pytest.mark.late(11)
@pytest.mark.journal("patroni@database", "backend@backend")
@pytest.mark.timeout(180)
def test_the_database_restarts(running: Running) -> None:
    """Instances stay in DNS meanwhile (their health is their own), and work again without a restart."""
    names = running.names("backend")
    pids = {name: running.sh(name, "systemctl show -P MainPID backend") for name in names}
    with Traffic(running, path="status", count=200, rate=20, seconds=30) as traffic:
        running.sh(primary(running), "systemctl restart patroni")
        running.wait_database(20)
    traffic.require_no_failure(least=100)
    created = running.api("notes", "POST", json={"text": "after the restart"})
    assert created.status_code == 201
    running.api(f"notes/{created.json()['note']['id']}", "DELETE")
    assert {name: running.sh(name, "systemctl show -P MainPID backend") for name in names} == pids
    running.wait_healthy(30)


@pytest.mark.late(11)
@pytest.mark.journal("patroni@database", "backend@backend")
@pytest.mark.timeout(180)
def test_without_a_database_the_api_says_so(running: Running) -> None:
    running.each("database", "systemctl stop patroni")
    try:
        wait_until(lambda: running.api("notes", timeout=15).status_code == 503, 15, "the notes can't be read")
        assert running.api("notes", timeout=15).json()["error"]["message"]
        assert running.api("status").status_code == 200
        assert len(running.sh(running.names("frontend")[0], "dig +short backend.service.consul").split()) == len(
            running.names("backend")
        )
        # The page, Consul's checks and `make status` say the same.
        said = '<html lang="en" data-problem="database">'
        wait_until(lambda: said in running.lab.get(f"{running.page}/", timeout=15).text, 10, "the page says why")
        wanted = ["warning"] * len(running.names("backend"))
        wait_until(lambda: running.checks("backend") == wanted, 10, "Consul warns of each instance")
        status = json.loads(running.status().stdout)
        assert status["verdict"] == "unhealthy"
        lines = {(line["section"], line["name"]): line for line in status["lines"]}
        assert {lines["Database", name]["state"] for name in running.names("backend")} == {"away"}
        assert lines["Page", running.page]["state"] == "no notes"
        assert lines["Services", "backend"]["level"] == "warning"
    finally:
        running.each("database", "systemctl start patroni")
    running.wait_database(30)
    running.wait_healthy(30)


@pytest.mark.late(11)
@pytest.mark.journal("vault-agent@backend")
@pytest.mark.timeout(120)
def test_the_agent_restarts_and_needs_nobody(running: Running) -> None:
    name = running.names("backend")[0]
    with Traffic(running, count=200, rate=20, seconds=20) as traffic:
        running.sh(name, "systemctl restart vault-agent")
    traffic.require_no_failure(least=150)
    wait_until(
        lambda: running.sh(name, "systemctl is-active vault-agent").strip() == "active", 10, "the agent is active"
    )
    modes = running.sh(name, "stat -c '%a' /run/secrets/*").split()
    assert set(modes) == {"640"}


@pytest.mark.late(10)
@pytest.mark.journal("consul@control", "consul@backend", "nginx@frontend")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param("iif != lo meta l4proto { tcp, udp } th dport 8301 drop", id="no agent hears theirs"),
        pytest.param("iif lo tcp dport 8443 drop", id="their checks come too late"),
    ],
)
def test_backends_that_are_wrongly_held_for_sick_are_asked(running: Running, rules: str) -> None:
    """A machine that was cut off and is back calls others dead, and a check may take too long where much is done."""
    machines, names = Containers(running), Names(running, running.names("frontend")[0], [BACKEND_NAME])

    def led() -> bool:
        return bool(names.seen and names.seen[-1][1][BACKEND_NAME])

    try:
        wait_until(led, 10, "the backends' name leads to them")
        with Traffic(running, count=2400, rate=40) as traffic:
            try:
                inner = machines.inner()
                for name in running.names("backend"):
                    chain = f"chain input {{ type filter hook input priority -10; {rules}; }}"
                    nft(f"table inet {TABLE} {{\n{chain}\n}}\n", "nsenter", "-t", str(inner[name][0]), "-n")
                wait_until(lambda: not led(), 15, "Consul holds all backends for sick")
                time.sleep(2)  # some 80 requests meanwhile
            finally:
                machines.join()
            wait_until(led, 60, "the backends' name leads to them again")
            traffic.stop()
    finally:
        names.stop()
    traffic.require_no_failure(least=100)
    running.wait_healthy(60)


@pytest.mark.late(11)
@pytest.mark.journal("nginx@frontend")
@pytest.mark.timeout(120)
def test_without_a_backend_the_page_says_so(running: Running) -> None:
    names = running.names("backend")
    for name in names:
        running.sh(name, "systemctl stop --no-block backend")
    try:
        wait_until(lambda: running.api("status").status_code == 503, 15, "the API says 503")
        assert running.api("status").headers["Content-Type"].startswith("application/json")
        page = running.lab.get(f"{running.page}/", timeout=15)
        assert page.status_code in (200, 503)
        assert "backend" in page.text.lower()
    finally:
        for name in names:
            running.sh(name, "systemctl is-active -q backend && systemctl stop backend; systemctl start backend")
    running.wait_healthy(30)
