"""A lab that was left alone for long comes back: by itself where nothing has ended, by one run where all has.

What ages is made old on the machines while they still run, and then they stop: machines here share
the computer's clock.
"""

from __future__ import annotations

import datetime
import json

import pytest
import requests
from cryptography import x509

from tests.running import Running, begin, end, wait_until
from tools import running as deadlines
from tools.failures.certificates import authority_key, issued

SEEN = "/var/lib/consul/server_metadata.json"
# Longer than what is renewed lives: a leaf a year, the authority ten.
LEAF = datetime.timedelta(days=366)
AUTHORITY = datetime.timedelta(days=3651)
DOWN = ("playbooks/down.yml", "-e", "keep=true")


def stop(running: Running) -> None:
    """`make down KEEP=1`, where no machine waits for those that have ended before."""
    run = running.playbook(*DOWN, extra=False).require()
    assert run.seconds < 40 * deadlines.pace


def stop_half(running: Running) -> None:
    """The same, killed when machines have begun to end."""

    def answers() -> bool:
        try:
            return bool(running.lab.get(running.page, timeout=1))
        except requests.RequestException:
            return False

    run = begin(running, *DOWN, until="End the machine")
    wait_until(lambda: not answers(), 20, "the frontend ends", every=0.1)
    end(run)


def seen_last(running: Running, days: int) -> None:
    """Let Consul's servers believe that they were off for so long."""
    when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    text = json.dumps({"last_seen_unix": int(when.timestamp())})
    for name in running.names("control"):
        running.sh(name, f"cat > {SEEN}", stdin=text)


def age_certificates(running: Running) -> None:
    """Let each certificate, and the authority's own, have ended: on the controller, and wherever a machine has it."""
    folder = running.lab.directory / "tls"
    key = authority_key(running.lab)
    for path in sorted(folder.rglob("*.pem")):
        before = path.read_bytes()
        authority = path.name == "ca.pem"
        after = issued(x509.load_pem_x509_certificate(before), AUTHORITY if authority else LEAF, key)
        machines = [machine.name for machine in running.lab.machines if authority or machine.name == path.parent.name]
        # The last lines of a certificate are its signature, so no other one has them.
        line = before.decode().splitlines()[-2]
        for name in machines:
            places = running.sh(name, f"grep -rlsF -e '{line}' /etc").split()
            assert places, f"{path.name} is nowhere on {name}"
            for place in places:
                running.sh(name, f"cat > '{place}'", stdin=after.decode())
        path.write_bytes(after)


@pytest.mark.late(14)
@pytest.mark.journal("consul@control", "vault@control", "vault-agent@backend")
@pytest.mark.timeout(300)
def test_after_eight_days_its_machines_need_only_to_start(running: Running) -> None:
    note = running.api("notes", "POST", json={"text": "eight days ago"}).json()["note"]["id"]
    seen_last(running, 8)
    stop_half(running)
    stop(running)
    running.playbook("site.yml", "--tags", "machines").require()
    for machine in running.lab.machines:
        last = running.sh(machine.name, "journalctl --boot=-1 --lines=20 --output=cat --no-pager")
        assert "Journal stopped" in last, f"{machine.name} did not end in order:\n{last}"
    running.wait_healthy(90)
    assert note in [item["id"] for item in running.api("notes").json()["notes"]]
    running.api(f"notes/{note}", "DELETE")


@pytest.mark.late(14)
@pytest.mark.journal("consul@control", "vault@control", "vault-agent@backend", "backend@backend")
@pytest.mark.timeout(600)
def test_after_years_one_run_is_enough(running: Running) -> None:
    note = running.api("notes", "POST", json={"text": "years ago"}).json()["note"]["id"]
    seen_last(running, AUTHORITY.days)
    vault = running.lab.vault()
    for accessor in vault.list("auth/token/accessors")["data"]["keys"]:
        if vault.auth.token.lookup_accessor(accessor)["data"]["path"] == "auth/approle/login":
            vault.auth.token.revoke_accessor(accessor)  # and its leases, so its database user
    vault.auth.token.revoke_self()
    age_certificates(running)
    stop(running)
    run = running.playbook("site.yml").require()
    print(f"the run took {run.seconds:.0f} s")
    running.wait_healthy(90)
    notes = wait_until(lambda: running.api("notes").json()["notes"], 30, "the notes can be read")
    assert note in [item["id"] for item in notes]
    running.api(f"notes/{note}", "DELETE")
    again = running.playbook("site.yml").require()
    assert again.changed == {}, again.output[-6000:]
