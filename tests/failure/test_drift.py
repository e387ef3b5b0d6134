"""A file that somebody has changed by hand is put right by the next run, which says so."""

from __future__ import annotations

import pytest

from tests.running import Running

# A file of each role, on one machine, and what must be as before after the run.
FILES = {
    "control-1": "/etc/consul.d/consul.json",
    "control-2": "/etc/vault.d/vault.json",
    "database-1": "/etc/consul.d/postgresql.json",
    "backend-1": "/etc/systemd/system/backend.service",
    "frontend-1": "/etc/nginx/nginx.conf",
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
