"""What is put into Vault is in a file of the host within seconds, for one group to read; nobody is needed for it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import hvac
import pytest

from tests.running import Running, wait_until

pytestmark = [pytest.mark.journal("vault-agent@backend", "vault@control"), pytest.mark.timeout(180)]
HOST = "backend-1"
FOLDER = "/run/secrets"
COMPLAINTS = "/run/secrets-refused"


def put(running: Running, path: str, **secret: str) -> None:
    """``vault kv put secret/PATH ...``."""
    running.lab.vault().secrets.kv.v2.create_or_update_secret(path, secret=secret, mount_point="secret")


def reads(running: Running, word: str, file: str = "app.json") -> Callable[[], bool]:
    """Whether a file of the host holds a word."""
    return lambda: word in running.sh(HOST, f"cat {FOLDER}/{file}")


@pytest.fixture(scope="module", autouse=True)
def delivered(running: Running) -> None:
    """The files are there again after the reboot of both machines, with no command given."""
    for file in ("app.json", "pg_service.conf"):
        wait_until(lambda file=file: running.sh(HOST, f"cat {FOLDER}/{file}"), 90, f"{file} is there")  # type: ignore[misc]


def test_the_files_say_what_vault_says(running: Running) -> None:
    assert json.loads(running.sh(HOST, f"cat {FOLDER}/app.json")) == {"greeting": "Hello from Vault"}
    lines = running.sh(HOST, f"cat {FOLDER}/pg_service.conf").split()
    assert "password=first-password" in lines
    assert "user=lab_app" in lines


def test_they_are_in_memory_and_for_one_group_alone(running: Running, host: Callable[[str], Any]) -> None:
    assert running.sh(HOST, f"findmnt -no FSTYPE --target {FOLDER}").strip() == "tmpfs"
    folder = host(HOST).file(FOLDER)
    assert (folder.user, folder.group, oct(folder.mode)) == ("vault-agent", "backend", "0o2750")
    assert sorted(folder.listdir()) == ["app.json", "pg_service.conf"]
    for name in folder.listdir():
        file = host(HOST).file(f"{FOLDER}/{name}")
        assert (file.user, file.group, oct(file.mode)) == ("vault-agent", "backend", "0o640"), name


def test_a_changed_secret_arrives_within_10_seconds(running: Running) -> None:
    word = secrets.token_urlsafe(16)
    put(running, "app", greeting=word)
    put(running, "db", password=word, username="other")
    wait_until(reads(running, word), 10, "the greeting arrives")
    wait_until(reads(running, f"password={word}", "pg_service.conf"), 10, "the password arrives")
    assert "user=other" in running.sh(HOST, f"cat {FOLDER}/pg_service.conf").split()


def test_the_files_stay_while_the_agent_is_away_and_it_needs_nobody_to_return(running: Running) -> None:
    word = secrets.token_urlsafe(16)
    running.sh(HOST, "systemctl stop vault-agent")
    try:
        put(running, "app", greeting=word)
        assert running.sh(HOST, f"cat {FOLDER}/app.json")
        assert not reads(running, word)()
    finally:
        running.sh(HOST, "systemctl start vault-agent")
    wait_until(reads(running, word), 15, "the agent has logged in again")


def test_a_killed_agent_returns(running: Running, kill: Callable[[str, str], None]) -> None:
    kill(HOST, "vault-agent")
    word = secrets.token_urlsafe(16)
    put(running, "app", greeting=word)
    wait_until(reads(running, word), 15, "the agent has logged in again")


def agent_pid(running: Running) -> str:
    """The agent's process."""
    return running.sh(HOST, "systemctl show -P MainPID vault-agent").strip()


def test_who_says_that_a_secret_is_refused_has_all_fetched_anew(running: Running) -> None:
    """At once, then after pauses that grow, for as long as it is said; and no unit ends as failed."""
    complain = "setpriv --reuid=nobody --regid=nogroup --groups=$(getent group backend | cut -d: -f3)"
    unit = "vault-agent-refused.service"
    before, began = agent_pid(running), running.sh(HOST, "date +%s").strip()
    # Emptied by hand as well: what is fetched anew is written anew.
    running.sh(HOST, f"{complain} touch {COMPLAINTS}/test && rm {FOLDER}/*")
    try:
        wait_until(lambda: agent_pid(running) not in ("0", before), 3, "the agent is another")
        wait_until(
            lambda: running.sh(HOST, f"ls {FOLDER}").split() == ["app.json", "pg_service.conf"], 4, "all is there"
        )
        time.sleep(13)
        said = running.sh(HOST, f"journalctl --since=@{began} -u {unit} -o cat | grep -c fetching").strip()
        assert said == "2", "once at the start and once after 5 s; the third time is 10 s later"
    finally:
        running.sh(HOST, f"rm -f {COMPLAINTS}/test")
    wait_until(lambda: running.attempt(HOST, f"systemctl is-active {unit}").stdout.strip() == "inactive", 10, "it ends")
    assert running.sh(HOST, "systemctl is-active vault-agent vault-agent-refused.path").split() == ["active"] * 2
    assert running.sh(HOST, "systemctl list-units --failed --plain --no-legend") == ""


def test_only_those_may_say_so_who_may_read_the_secrets(running: Running, host: Callable[[str], Any]) -> None:
    folder = host(HOST).file(COMPLAINTS)
    assert (folder.user, folder.group, oct(folder.mode)) == ("vault-agent", "backend", "0o770")
    stranger = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
    assert running.attempt(HOST, f"{stranger} touch {COMPLAINTS}/test").returncode != 0


def test_what_comes_and_goes_has_the_agent_fetch_no_more_than_every_5_seconds(running: Running) -> None:
    began = running.sh(HOST, "date +%s").strip()
    for _ in range(40):
        running.sh(HOST, f"touch {COMPLAINTS}/test; sleep 0.1; rm {COMPLAINTS}/test; sleep 0.1")
    fetched = running.attempt(HOST, f"journalctl --since=@{began} -u vault-agent-refused -o cat | grep -c fetching")
    assert 1 <= int(fetched.stdout) <= 3, "in some ten seconds"
    assert running.sh(HOST, "systemctl list-units --failed --plain --no-legend") == ""


def test_the_agent_outlasts_vault(running: Running) -> None:
    word = secrets.token_urlsafe(16)
    running.sh("control-1", "systemctl restart vault")
    wait_until(lambda: put(running, "app", greeting=word) is None, 60, "Vault has unsealed itself")
    wait_until(reads(running, word), 30, "the agent reads again")


def test_the_login_is_of_no_use_elsewhere(running: Running) -> None:
    """The SecretID is on the machine alone, encrypted; and Vault takes it from the machine's address only."""
    command = "systemd-creds decrypt --name=secret_id /etc/vault-agent.d/secret_id.cred -"
    secret_id = running.sh(HOST, command).strip()
    role_id = running.sh(HOST, "cat /etc/vault-agent.d/role_id").strip()
    assert secret_id not in running.sh(HOST, "cat /etc/vault-agent.d/*.json /etc/vault-agent.d/role_id")
    client = running.lab.vault(token="")
    with pytest.raises(hvac.exceptions.VaultError, match="source address"):
        client.auth.approle.login(role_id=role_id, secret_id=secret_id)


def test_the_agent_reads_nothing_else(running: Running) -> None:
    vault = running.lab.vault()
    policies = vault.read(f"auth/approle/role/{HOST}")["data"]["token_policies"]
    assert policies == [HOST]
    token = vault.auth.token.create(policies=policies, no_default_policy=True, ttl="1m")["auth"]["client_token"]
    agent = running.lab.vault(token=token)
    assert agent.read("secret/data/app")
    for path in ("secret/data/other", "database/creds/backend-2", "sys/mounts"):
        with pytest.raises(hvac.exceptions.Forbidden):
            agent.read(path)


def test_the_unit_is_hardened(exposure: Callable[[str, str], float]) -> None:
    assert exposure(HOST, "vault-agent.service") <= 2
    assert exposure(HOST, "vault-agent-refused.service") <= 2


def test_wrong_options_are_refused_with_a_sentence(refuses: Callable[..., str]) -> None:
    assert "vault_agent_address must begin with https://" in refuses(vault_agent_address="http://192.0.2.1:8200")
    assert "value of vault_agent_log_level must be one of" in refuses(vault_agent_log_level="LOUD")
