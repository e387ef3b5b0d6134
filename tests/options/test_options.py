"""A lab whose every option is set to another value than usual comes up, works, and each value is seen.

The values are written where docs/operation.md says, into a copy of the inventory; the machines are all in the group
``emulated``, so that what emulated processors get is seen as well. tests/unit/test_options.py asks that no option is
missing here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.running import Run, Running, wait_until
from tools.lab import ROOT, load
from tools.running import ssh_config

VALUES = Path(__file__).parent / "values.yml"
GIVEN: dict[str, Any] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
EMULATED: dict[str, Any] = yaml.safe_load((ROOT / "inventories/group_vars/emulated.yml").read_text(encoding="utf-8"))
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The containers' inventory with one machine of each kind, and the values."""
    copy = tmp_path_factory.mktemp("options") / "inventory"
    shutil.copytree(ROOT / "inventories" / "containers", copy)
    hosts = yaml.safe_load((copy / "hosts.yml").read_text(encoding="utf-8"))
    for group in hosts["lab"]["children"].values():
        for host in list(group["hosts"])[1:]:
            del group["hosts"][host]
    hosts["emulated"] = {"children": dict.fromkeys(hosts["lab"]["children"])}
    (copy / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    # The last of the files of a folder wins.
    shutil.copy(VALUES, copy / "group_vars" / "lab" / "zz-values.yml")
    return copy


@pytest.fixture(scope="module")
def running(inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The lab, not yet up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_NAME", f"{os.environ['LAB_NAME'][:8]}-o")
        lab = load([str(inventory)])
        running = Running(lab, [str(inventory)], [], ssh_config(lab, tmp_path_factory.mktemp("ssh")))
        running.playbook("playbooks/down.yml")
        yield running
        running.playbook("playbooks/down.yml")


@pytest.fixture(scope="module")
def first_run(running: Running) -> Run:
    """The run that brings it up."""
    return running.playbook("-v", "site.yml", timeout=900)


@pytest.fixture(scope="module")
def up(running: Running, first_run: Run) -> Running:
    """The lab, up."""
    first_run.require()
    # For the upstream name server of the values.
    running.sh(
        "database-1",
        "systemd-run --quiet --unit=upstream dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv "
        "--pid-file= --port=5353 --address=/outside.example/192.0.2.53",
    )
    return running


def consul_settings(running: Running, name: str) -> dict[str, Any]:
    """The settings that a running agent has, by its own word."""
    return dict(consul_agent(running, name, "self")["DebugConfig"])


def consul_agent(running: Running, name: str, path: str) -> Any:
    """What a machine's agent says of itself."""
    header = f"X-Consul-Token: {running.lab.secrets()['consul_management']}"
    return json.loads(running.sh(name, f"curl -sf -H @- http://127.0.0.1:8500/v1/agent/{path}", header))


def check(running: Running, name: str, service: str) -> tuple[str, str]:
    """How often an agent checks a service, and how long that may take."""
    checks = consul_agent(running, name, "checks").values()
    definition = next(item for item in checks if item["ServiceName"] == service)
    return definition["Interval"], definition["Timeout"]


def vault_settings(running: Running) -> dict[str, Any]:
    """The settings that the running Vault has, by its own word."""
    return dict(running.lab.vault().read("sys/config/state/sanitized")["data"])


def environment(running: Running, name: str) -> str:
    """A variable of the backend's process."""
    words = running.sh("backend-1", "cat /proc/$(systemctl show -P MainPID backend)/environ").split("\0")
    return dict(word.partition("=")[::2] for word in words)[name]


def nginx(running: Running, setting: str) -> str:
    """A setting of the frontend's nginx, all its values."""
    return " ".join(re.findall(rf"^\s*{setting} (.*);", running.sh("frontend-1", "nginx -T 2>/dev/null"), re.MULTILINE))


def file(running: Running, name: str, path: str, pattern: str) -> str:
    """What a pattern's group finds in a file."""
    found = re.search(pattern, running.sh(name, f"cat {path}"))
    return found[1] if found else ""


def logged(running: Running, name: str, unit: str, word: str) -> bool:
    """Whether a unit's journal holds a word."""
    return word in running.sh(name, f"journalctl -u {unit} --no-pager -o cat")


def days(running: Running) -> int:
    """How long the page's certificate lives."""
    machine = running.lab.group("frontend")[0]
    certificate = x509.load_pem_x509_certificate(ssl.get_server_certificate((machine.address, 443)).encode())
    return (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days


def refusals(running: Running) -> str:
    """What the page's API says to one who asks too often."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: running.api("status"), range(60)))
    refused = [answer.json()["error"]["message"] for answer in answers if answer.status_code == 429]
    assert 0 < len(refused) <= 60 - GIVEN["frontend_burst"]
    return str(refused[0])


SEEN: dict[str, tuple[Callable[[Running], Any], Any]] = {
    "lab_network": (lambda running: running.lab.machine("backend-1").address, "10.213.7.101"),
    "lab_domain": (
        lambda running: running.sh("frontend-1", "dig +short backend.service.lab.internal").split(),
        ["10.213.7.101"],
    ),
    "lab_datacenter": (lambda running: consul_settings(running, "backend-1")["Datacenter"], "south"),
    "lab_certificate_days": (days, 90),
    "lab_vault_shares": (lambda running: running.lab.vault().sys.read_seal_status()["n"], 3),
    "lab_vault_threshold": (lambda running: running.lab.vault().sys.read_seal_status()["t"], 2),
    "backend_db_credentials": (
        lambda running: running.api("status").json()["database"]["user"],
        "lab_app",
    ),
    "backend_log_level": (lambda running: environment(running, "BACKEND_LOG_LEVEL"), "debug"),
    "backend_pool_size": (lambda running: environment(running, "BACKEND_POOL_SIZE"), "5"),
    "backend_threads": (lambda running: environment(running, "BACKEND_THREADS"), "32"),
    "consul_service_interval": (lambda running: check(running, "backend-1", "backend")[0], "5s"),
    "consul_service_timeout": (lambda running: check(running, "backend-1", "backend")[1], "5s"),
    "backend_drain_seconds": (
        lambda running: "sleep 7" in running.sh("backend-1", "systemctl show -P ExecStop backend"),
        True,
    ),
    # The user's own settings are there, and so are those of an emulated processor.
    "consul_extra_settings": (
        lambda running: consul_settings(running, "backend-1")["Telemetry"]["PrometheusOpts"]["Expiration"],
        "1m0s",
    ),
    "consul_raft_multiplier": (
        lambda running: [
            consul_settings(running, "backend-1")["GossipLANProbeInterval"],
            consul_settings(running, "backend-1")["GossipLANProbeTimeout"],
            consul_settings(running, "control-1")["ConsulRaftHeartbeatTimeout"],
        ],
        ["2.1s", "1.2s", "6s"],
    ),
    "consul_log_level": (lambda running: consul_settings(running, "control-1")["Logging"]["LogLevel"], "DEBUG"),
    "dnsmasq_cache_size": (
        lambda running: running.sh("frontend-1", "dig +short @127.0.0.1 chaos txt cachesize.bind").strip(),
        '"500"',
    ),
    "dnsmasq_upstream_servers": (
        lambda running: running.sh("frontend-1", "dig +short outside.example").strip(),
        "192.0.2.53",
    ),
    "frontend_access_log": (lambda running: logged(running, "frontend-1", "nginx", '"GET /api/status'), True),
    "frontend_rate": (refusals, "too many requests, more than 20 in a second"),
    "frontend_burst": (lambda running: set(nginx(running, "limit_req zone=api").split()), {"burst=10", "nodelay"}),
    "frontend_workers": (lambda running: running.sh("frontend-1", "pgrep -c -f 'nginx: worker'").strip(), "2"),
    "frontend_php_children": (
        lambda running: file(running, "frontend-1", "/etc/frontend/php-fpm.conf", r"max_children = (\d+)"),
        "3",
    ),
    "frontend_connect_timeout": (lambda running: nginx(running, "proxy_connect_timeout"), "5s"),
    "frontend_read_timeout": (lambda running: nginx(running, "proxy_read_timeout").split()[0], "15s"),
    "frontend_notes_read_timeout": (lambda running: nginx(running, "proxy_read_timeout").split()[1], "20s"),
    "postgresql_max_connections": (lambda running: running.sql("show max_connections"), "90"),
    "postgresql_shared_buffers": (lambda running: running.sql("show shared_buffers"), "48MB"),
    "postgresql_patroni_multiplier": (
        lambda running: running.lab.get(f"https://{running.lab.machine('database-1').address}:8008/config").json()[
            "ttl"
        ],
        40,
    ),
    "postgresql_settings": (lambda running: running.sql("show deadlock_timeout"), "2s"),
    "vault_raft_performance_multiplier": (
        lambda running: vault_settings(running)["storage"]["raft"]["performance_multiplier"],
        "5",
    ),
    "vault_consul_check_timeout": (
        lambda running: file(running, "control-1", "/etc/vault.d/vault.json", r'"check_timeout": "(\w+)"'),
        "60s",
    ),
    "vault_log_level": (lambda running: vault_settings(running)["log_level"], "debug"),
    "vault_extra_settings": (lambda running: vault_settings(running)["default_lease_ttl"], 240 * 3600),
    "vault_audit_log_size": (
        lambda running: "10485760 bytes" in running.sh("control-1", "logrotate -d /etc/vault.d/logrotate.conf 2>&1"),
        True,
    ),
    "vault_audit_log_keep": (
        lambda running: "(3 rotations)" in running.sh("control-1", "logrotate -d /etc/vault.d/logrotate.conf 2>&1"),
        True,
    ),
    "vault_database_default_ttl": (
        lambda running: running.lab.vault().read("database/roles/backend-1")["data"]["default_ttl"],
        120,
    ),
    "vault_database_max_ttl": (
        lambda running: running.lab.vault().read("database/roles/backend-1")["data"]["max_ttl"],
        600,
    ),
    "vault_agent_log_level": (lambda running: logged(running, "backend-1", "vault-agent", "[DEBUG]"), True),
    "vault_agent_static_secret_interval": (
        lambda running: file(
            running, "backend-1", "/etc/vault-agent.d/agent.json", r'"static_secret_render_interval": "(\w+)"'
        ),
        "2s",
    ),
    "vault_agent_request_timeout": (
        lambda running: running.sh("backend-1", "systemctl show -P Environment vault-agent").strip(),
        "VAULT_CLIENT_TIMEOUT=4",
    ),
}
"""How each value is seen, and what is to be seen."""
OUTPUT = (
    "consul_no_log",
    "postgresql_no_log",
    "vault_no_log",
    "vault_agent_no_log",
)
RELEASES = ("backend_keep_releases", "backend_release", "frontend_keep_releases", "frontend_release")


def test_the_lab_comes_up(first_run: Run) -> None:
    first_run.require()


def test_it_works(up: Running) -> None:
    up.wait_healthy(60)
    assert "backend-1" in up.lab.get(up.page).text
    created = up.api("notes", "POST", json={"text": "a row"})
    assert created.status_code == 201, created.text
    assert up.sql("select text from notes") == "a row"


@pytest.mark.parametrize("option", sorted(SEEN))
def test_the_value_is_seen(up: Running, option: str) -> None:
    look, expected = SEEN[option]

    def seen() -> bool:
        value = look(up)
        assert value == expected, f"it is {value!r}, not {expected!r}"
        return True

    wait_until(seen, 30, option, every=1)


@pytest.mark.parametrize("option", OUTPUT)
def test_without_no_log_tasks_show_what_they_do(first_run: Run, option: str) -> None:
    role = f"hashistack.lab.{option.removesuffix('_no_log')}"
    parts = re.findall(rf"^TASK \[{role} : (.*?)(?=^TASK |^PLAY |\Z)", first_run.output, re.MULTILINE | re.DOTALL)
    assert parts
    assert not [part.splitlines()[0] for part in parts if "has been hidden" in part]


@pytest.mark.timeout(600)
def test_a_second_run_changes_nothing(up: Running) -> None:
    again = up.playbook("site.yml").require()
    assert again.changed == {}, again.output[-6000:]


@pytest.mark.timeout(600)
def test_a_release_is_taken_back_and_one_earlier_one_stays(up: Running, tmp_path: Path) -> None:
    """On machines that have had other releases before, one of them a virtual environment."""

    def releases(name: str) -> set[str]:
        return set(up.sh(name, f"ls /opt/{name.partition('-')[0]}/releases").split())

    def current(name: str) -> str:
        return up.sh(name, f"basename $(readlink /opt/{name.partition('-')[0]}/current)").strip()

    machines = ("backend-1", "frontend-1")
    first = {name: current(name) for name in machines}
    for name in machines:
        up.sh(name, f"cd /opt/{name.partition('-')[0]}/releases && mkdir old older && touch -d -1day old older")
    shutil.copytree(ROOT / "app/backend/src", tmp_path / "backend")
    (tmp_path / "backend/lab_backend/another.py").touch()
    shutil.copytree(ROOT / "app/frontend", tmp_path / "frontend")
    (tmp_path / "frontend/public/another.html").touch()
    other = ("-e", f"backend_source={tmp_path}/backend", "-e", f"frontend_source={tmp_path}/frontend")
    up.playbook("site.yml", "--tags", "backend,frontend", *other).require()
    second = {name: current(name) for name in machines}
    for name in machines:
        assert second[name] != first[name]
        assert releases(name) == {first[name], second[name]}, name
    up.sh(
        "backend-1",
        "mkdir /opt/backend/releases/1.0.0-0123abcd && touch /opt/backend/releases/1.0.0-0123abcd/pyvenv.cfg",
    )
    refused = up.playbook("site.yml", "--tags", "backend", "-e", "backend_release=1.0.0-0123abcd")
    assert refused.code != 0
    assert "made by an earlier kind of lab" in refused.output
    back = ("-e", f"backend_release={first['backend-1']}", "-e", f"frontend_release={first['frontend-1']}")
    up.playbook("site.yml", "--tags", "backend,frontend", *back).require()
    assert {name: current(name) for name in machines} == first
    wait_until(lambda: up.api("status").status_code == 200, 30, "the page's API answers")
