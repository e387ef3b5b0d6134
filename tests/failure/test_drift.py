"""A file that somebody has changed by hand is put right by the next run, which says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import Running, wait_until

# A file of each role, and of both releases, on one machine, and what must be as before after the run.
FILES = {
    "control-1": "/etc/consul.d/consul.json",
    "control-2": "/etc/vault.d/vault.json",
    "database-1": "/etc/consul.d/postgresql.json",
    "backend-1": "/etc/systemd/system/backend.service",
    "backend-2": "/opt/backend/current/lab_backend/web.py",
    "frontend-1": "/opt/frontend/current/public/index.php",
}


@pytest.mark.late(12)
@pytest.mark.timeout(600)
def test_hand_changed_files_are_put_right(running: Running) -> None:
    before = {}
    for name, path in FILES.items():
        before[name] = running.sh(name, f"sha256sum {path} && stat -c '%a %U %G' {path}")
        running.sh(name, f"printf '\\n' >> {path} && chmod 0666 {path}")
    check = running.playbook("site.yml", "--check", "--diff").require()
    assert set(check.changed) >= set(FILES), check.output[-4000:]
    run = running.playbook("site.yml").require()
    assert set(run.changed) >= set(FILES), run.output[-4000:]
    for name, path in FILES.items():
        assert running.sh(name, f"sha256sum {path} && stat -c '%a %U %G' {path}") == before[name]
    running.wait_healthy(60)
    assert running.playbook("site.yml").require().changed == {}


BREAK = "/etc/systemd/system/dnsmasq.service.d/broken.conf"


@pytest.fixture
def crashing(running: Running) -> Iterator[str]:
    """A machine whose dnsmasq crashes at each start, since before the run that looks at it."""
    name = running.names("frontend")[0]
    setting = "[Service]\nExecStartPre=/bin/sh -c 'echo the disk is full; exit 1'\n"
    running.sh(name, f"mkdir -p $(dirname {BREAK}) && cat > {BREAK} && systemctl daemon-reload", stdin=setting)
    running.attempt(name, "systemctl restart dnsmasq")
    wait_until(lambda: int(running.sh(name, "systemctl show -P NRestarts dnsmasq")) > 1, 20, "systemd starts it again")
    yield name
    running.sh(name, f"rm -f {BREAK} && systemctl daemon-reload && systemctl restart dnsmasq")


@pytest.mark.late(12)
@pytest.mark.timeout(120)
def test_a_unit_in_a_crash_loop_is_not_fine(running: Running, crashing: str) -> None:
    run = running.playbook("site.yml", "--tags", "dnsmasq", "--limit", crashing)
    assert run.code != 0, run.output[-3000:]
    assert "dnsmasq.service does not stay up" in run.output
    assert "The last that it said: the disk is full" in run.output


@pytest.mark.late(12)
@pytest.mark.timeout(180)
def test_packages_that_were_cut_off_are_put_right(running: Running) -> None:
    """A dpkg was killed: a package is missing, and what it had to do yet stands where it notes that."""
    name = running.names("database")[0]
    running.sh(
        name,
        "dpkg --remove --force-depends python3-psycopg2 && dpkg-query --status netbase > /var/lib/dpkg/updates/0000",
    )
    refused = running.attempt(name, "apt-get install --yes --no-install-recommends python3-psycopg2")
    assert "dpkg was interrupted" in refused.stderr
    running.playbook("site.yml", "--tags", "postgresql", "--limit", name).require()
    assert running.sh(name, "dpkg-query --show --showformat='${db:Status-Status}' python3-psycopg2") == "installed"
    running.wait_healthy(30)
