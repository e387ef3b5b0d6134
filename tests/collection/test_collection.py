"""The tarball in an empty folder, with an environment of its own: each README's playbook brings its service up.

What is typed is docs/collection.md's and the READMEs' own text. Nothing of the project is in reach but the tarball.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.module_utils.lab_owner import own_lab
from tests.running import Run, run_command
from tools.lab import ROOT, Machine, load

NAME = own_lab(str(ROOT), "role")
BIN = Path(sys.executable).parent
INVENTORY = [str(ROOT / "tests/collection/machines.yml"), str(ROOT / "molecule/shared/inventory")]
ROLES = ("consul", "vault", "dnsmasq", "postgresql")
# Programs of the controller.
PROGRAMS = ("consul", "vault")
# What on a machine shows that it runs what its role is for, and what that prints.
SHOWS = {
    "consul": (
        "consul members -http-addr=https://127.0.0.1:8501 -tls-server-name=server.dc1.consul "
        "-ca-file=/etc/consul.d/tls/ca.pem -token={management}",
        r"consul-1 .* alive +server",
    ),
    "vault": (
        "VAULT_ADDR=https://127.0.0.1:8200 VAULT_TLS_SERVER_NAME=vault.service.consul "
        "VAULT_CACERT=/etc/vault.d/tls/ca.pem vault status",
        r"Sealed +false",
    ),
    "dnsmasq": ("grep nameserver /etc/resolv.conf; dig +short CH TXT version.bind", r"nameserver 127.0.0.1\n\"dnsmasq"),
    "postgresql": (
        "openssl s_client -starttls postgres -connect {address}:5432 -verify_hostname db.example.org "
        "-verify_return_error -CAfile /etc/patroni/tls/ca.pem </dev/null",
        r"Verified peername: db.example.org",
    ),
}


def documented(page: Path, language: str) -> str:
    """The first block of code in a language on a page."""
    found = re.search(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no block of {language}"
    return found[1]


def environment(folder: Path) -> dict[str, str]:
    """A stranger's: nothing of Ansible's or the lab's, and a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "LAB_", "PYTHON"))}
    return {**kept, "HOME": str(folder), "ANSIBLE_NOCOLOR": "1"}


def checkout(*arguments: str) -> None:
    """Run a playbook of this project on the test's machines."""
    words = [str(BIN / "ansible-playbook"), *(f"--inventory={path}" for path in INVENTORY)]
    extra = ["--extra-vars", '{"lab_layers": {}}']
    run_command([*words, *extra, *arguments], ROOT, {**os.environ, "LAB_NAME": NAME}, 300).require()


@pytest.fixture(scope="module")
def machines() -> Iterator[dict[str, Machine]]:
    """Machines with nothing on them, by role."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_NAME", NAME)
        checkout("playbooks/down.yml")
        checkout("playbooks/machines.yml")
        yield {machine.name.removesuffix("-1"): machine for machine in load(INVENTORY).machines}
        checkout("playbooks/down.yml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tarball, the environment that the page makes, and the programs."""
    place = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(["make", "collection"], cwd=ROOT, check=True, capture_output=True)
    (tarball,) = (ROOT / "dist").glob("*.tar.gz")
    shutil.copy(tarball, place)
    # The versions that this project knows; the page names none, so a stranger gets newer ones.
    locked = re.findall(r"^(\S+==\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    constraints = place / "constraints.txt"
    constraints.write_text("\n".join(locked), encoding="utf-8")
    variables = {**environment(place), "PIP_CONSTRAINT": str(constraints)}
    command = documented(ROOT / "docs/collection.md", "sh")
    # pip's own cache is the user's.
    cache = {"PIP_CACHE_DIR": str(Path.home() / ".cache/pip")}
    run_command(["bash", "-euxc", command], place, {**variables, **cache}, 300).require()
    programs = json.loads((ROOT / ".lab/artifacts.json").read_text(encoding="utf-8"))["programs"]
    for program in PROGRAMS:
        (place / program).symlink_to(programs[program])
    return place


def play(folder: Path, role: str, machine: Machine) -> Run:
    """Run a README's playbook on one machine."""
    (folder / f"{role}.yml").write_text(documented(ROOT / "roles" / role / "README.md", "yaml"), encoding="utf-8")
    common = " ".join(machine.ssh_arguments)
    (folder / f"hosts-{role}").write_text(
        f"{machine.name} ansible_host={machine.address} ansible_user={machine.user} "
        f"ansible_ssh_private_key_file={machine.key} ansible_ssh_common_args='{common}'\n",
        encoding="utf-8",
    )
    command = [".venv/bin/ansible-playbook", "-i", f"hosts-{role}", f"{role}.yml"]
    return run_command(command, folder, environment(folder), 300).require()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.timeout(200)
def test_a_readmes_playbook_brings_its_service_up(folder: Path, machines: dict[str, Machine], role: str) -> None:
    machine = machines[role]
    first = play(folder, role, machine)
    assert first.changed[machine.name] > 0
    command, shown = SHOWS[role]
    store = folder / "consul-keys/secrets.json"
    secrets = json.loads(store.read_text(encoding="utf-8")) if role == "consul" else {}
    words = ["ssh", *machine.ssh_arguments, "-i", machine.key, f"{machine.user}@{machine.address}"]
    asked = run_command([*words, command.format(address=machine.address, **secrets)], folder, environment(folder), 60)
    assert re.search(shown, asked.require().output), asked.output
    assert play(folder, role, machine).changed == {}, "a second run changed something"


def test_every_module_has_its_page(folder: Path) -> None:
    names = sorted(f"hashistack.lab.{path.stem}" for path in (ROOT / "plugins/modules").glob("*.py"))
    command = [".venv/bin/ansible-doc", "--json", *names]
    pages = json.loads(run_command(command, folder, environment(folder), 60).require().output)
    assert sorted(pages) == names
    assert not [name for name, page in pages.items() if not page["doc"]["short_description"] or not page["examples"]]
