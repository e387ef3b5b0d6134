"""Every machine reboots at once, and everything is back with no command given."""

from __future__ import annotations

import pytest

from tests.running import Running, wait_until


@pytest.mark.late(13)
@pytest.mark.journal("consul@lab", "vault@control", "vault-agent@backend", "backend@backend", "patroni@database")
@pytest.mark.timeout(400)
def test_all_machines_reboot_at_once(running: Running) -> None:
    note = running.api("notes", "POST", json={"text": "before the reboot"}).json()["note"]["id"]
    boots = {
        machine.name: running.sh(machine.name, "cat /proc/sys/kernel/random/boot_id; stat -c %Y /run/systemd")
        for machine in running.lab.machines
    }
    for machine in running.lab.machines:
        running.attempt(machine.name, "systemctl --no-block reboot")

    def rebooted(name: str) -> bool:
        done = running.attempt(name, "cat /proc/sys/kernel/random/boot_id; stat -c %Y /run/systemd", timeout=15)
        return done.returncode == 0 and done.stdout != boots[name]

    for machine in running.lab.machines:
        wait_until(lambda name=machine.name: rebooted(name), 120, f"{machine.name} is up again", every=0.5)  # type: ignore[misc]
    running.wait_healthy(120)
    assert note in [item["id"] for item in running.api("notes").json()["notes"]]
    running.api(f"notes/{note}", "DELETE")
    # A run afterwards finds nothing to do.
    again = running.playbook("site.yml").require()
    assert again.changed == {}, again.output[-6000:]


@pytest.mark.late(13)
@pytest.mark.journal("vault@control")
@pytest.mark.timeout(120)
def test_an_operators_seal_holds_until_the_service_starts(running: Running) -> None:
    name = running.names("control")[-1]
    machine = running.lab.machine(name)

    def sealed() -> bool:
        return bool(running.lab.get(f"https://{machine.address}:8200/v1/sys/seal-status").json()["sealed"])

    running.sh(name, "systemctl restart vault")
    wait_until(lambda: not sealed(), 30, "it unseals itself at its start")
    running.wait_healthy(60)
