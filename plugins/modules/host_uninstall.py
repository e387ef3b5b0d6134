#!/usr/bin/python
"""Takes a lab off a machine that existed before it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_uninstall
short_description: Take the lab off a machine
description:
  - Ends the lab's units and removes its programs, settings, users and packages; what the machine had before stays, by
    what C(/etc/hashistack-lab.json) says of that. A machine without that file is left alone.
  - Data stays unless I(data) is true, and with it the file, so that the lab can be installed again or its data removed.
options:
  lab:
    description: The lab's id. A machine of another lab is an error.
    type: str
    required: true
  packages:
    description: The Debian packages that its roles install. Those that the machine had before stay.
    type: list
    elements: str
    required: true
  adopt:
    description: Whether a machine of any lab is meant.
    type: bool
    default: false
  data:
    description: Whether the data goes too; of Consul, Vault and PostgreSQL, with the application's releases.
    type: bool
    default: false
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Take the lab off this machine, and keep its data
  hashistack.lab.host_uninstall:
    lab: 0f3a
    packages: [dnsmasq-base, bind9-dnsutils]
"""

RETURN = r"""
kept:
  description: Folders with data that stay.
  type: list
  returned: always
"""

import contextlib
import glob
import os
import pwd
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hashistack.lab.plugins.module_utils.host_mark import MARK, put_back, read_mark

# What the roles start, what serves first.
UNITS = (
    "nginx.service",
    "php*-fpm.service",
    "backend.service",
    "vault-agent-refused.path",
    "vault-agent-refused.service",
    "vault-agent.service",
    "vault-logrotate.timer",
    "vault-unseal.service",
    "vault.service",
    "patroni.service",
    "postgresql@*.service",  # of a lab before Patroni
    "consul.service",
    "dnsmasq.service",
)
# What they write, besides what packages bring.
PATHS = (
    "/etc/NetworkManager/conf.d/dnsmasq.conf",
    "/etc/backend",
    "/etc/consul.d",
    "/etc/dhcp/dhclient-enter-hooks.d/dnsmasq",
    "/etc/dhcpcd.enter-hook",
    "/etc/dnsmasq-upstream.conf",
    "/etc/dnsmasq.conf",
    "/etc/frontend",
    "/etc/nginx/tls",
    "/etc/patroni/*.conf",
    "/etc/patroni/config.yml",
    "/etc/patroni/tls",
    "/etc/postgresql-common/createcluster.conf",
    "/etc/systemd/resolved.conf.d/dnsmasq.conf",
    "/etc/systemd/system/backend.service",
    "/etc/systemd/system/consul.service",
    "/etc/systemd/system/dnsmasq.service",
    "/etc/systemd/system/nginx.service.d/unit.conf",
    "/etc/systemd/system/patroni.service.d/server.conf",
    "/etc/systemd/system/php*-fpm.service.d/frontend.conf",
    "/etc/systemd/system/postgresql@.service.d/server.conf",  # of a lab before Patroni
    "/etc/systemd/system/vault-agent-refused.path",
    "/etc/systemd/system/vault-agent-refused.service",
    "/etc/systemd/system/vault-agent.service",
    "/etc/systemd/system/vault-logrotate.service",
    "/etc/systemd/system/vault-logrotate.timer",
    "/etc/systemd/system/vault-unseal.service",
    "/etc/systemd/system/vault.service",
    "/etc/tmpfiles.d/vault-agent.conf",
    "/etc/vault-agent.d",
    "/opt/backend",
    "/opt/frontend",
    "/run/secrets",
    "/run/secrets-refused",
    "/usr/local/bin/consul",
    "/usr/local/bin/vault",
    "/usr/local/lib/consul",
    "/usr/local/lib/vault",
    "/usr/local/lib/vault-agent",
    "/var/lib/vault-logrotate",
)
# /etc/vault.d holds the shares that unseal what is in /var/lib/vault.
DATA = ("/var/lib/consul", "/var/lib/vault", "/etc/vault.d", "/var/log/vault", "/var/lib/postgresql", "/etc/postgresql")
USERS = ("backend", "consul", "frontend", "vault", "vault-agent")
# In packages' folders, so these may be there for others: removed only when they are empty.
FOLDERS = (
    "/etc/dhcp/dhclient-enter-hooks.d",
    "/etc/dhcp",
    "/etc/NetworkManager/conf.d",
    "/etc/NetworkManager",
    "/etc/nginx",
    "/etc/systemd/resolved.conf.d",
    "/etc/systemd/system/nginx.service.d",
    "/etc/systemd/system/php*-fpm.service.d",
    "/etc/patroni",
    "/etc/postgresql-common",
    "/etc/systemd/system/patroni.service.d",
    "/etc/systemd/system/postgresql@.service.d",
    "/var/www/html",
    "/var/www",
)


def existing(patterns: tuple[str, ...]) -> list[str]:
    """The paths that there are, links included."""
    return sorted(path for pattern in patterns for path in glob.glob(pattern))


def remove(path: str) -> None:
    """Remove a file, a link, or a folder with what is in it."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def restore_resolv_conf(before: dict[str, str]) -> None:
    """Put /etc/resolv.conf back, if it leads to the lab's dnsmasq."""
    path = "/etc/resolv.conf"
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
        if "127.0.0.1" not in stream.read():
            return
    put_back(path, before)


class Machine:
    """The machine, and what was done to it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def run(self, *command: str, may_fail: bool = False) -> str:
        """Run a command; what it prints."""
        environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        code, out, err = self.module.run_command(list(command), environ_update=environment)
        if code != 0 and not may_fail:
            self.module.fail_json(msg=f"'{' '.join(command)}' failed: {err.strip() or out.strip()}")
        return str(out)

    def end_units(self) -> None:
        """Stop and disable the lab's units."""
        listed = self.run("systemctl", "list-units", "--all", "--plain", "--no-legend", *UNITS)
        found = [line.split()[0] for line in listed.splitlines()]
        if found:
            self.run("systemctl", "disable", "--now", "--quiet", *found, may_fail=True)
            self.run("systemctl", "stop", *found)

    def remove_packages(self, before: list[str], data: bool) -> None:
        """Remove the packages that the lab has brought, with what only they needed."""
        here = self.run("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n").splitlines()
        new = {line.split()[0] for line in here if line.endswith((" installed", " config-files"))} - set(before)
        asked = [name for name in sorted(new) if self.brought(name)]
        if not asked:
            return
        self.purge(asked, data)
        # What the lab has brought goes also where another package would merely like to have it.
        least = [f"-oAPT::AutoRemove::{kind}Important=false" for kind in ("Recommends", "Suggests")]
        idle = self.run("apt-get", "-s", *least, "autoremove").splitlines()
        self.purge(sorted({line.split()[1] for line in idle if line.startswith("Remv ")} & new), data)

    def purge(self, packages: list[str], data: bool) -> None:
        """Remove packages with their settings; PostgreSQL's, whose purge removes its clusters, only with ``data``."""
        kept = [name for name in packages if name.startswith("postgresql") and not data]
        for action, names in (("remove", kept), ("purge", [name for name in packages if name not in kept])):
            if names:
                self.run("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", action, *names)

    def brought(self, name: str) -> bool:
        """Whether a package is one that the roles ask for."""
        # PostgreSQL's package tells apt never to remove its others by itself.
        return name in self.module.params["packages"] or name.startswith("postgresql")

    def remove_users(self) -> None:
        """Remove the accounts that the roles have made."""
        for name in USERS:
            with contextlib.suppress(KeyError):
                if pwd.getpwnam(name).pw_uid < 1000:
                    self.run("userdel", name, may_fail=True)


def uninstall(machine: Machine, mark: dict[str, Any], data: bool) -> None:
    """Do it all; again where an earlier run was cut off."""
    machine.end_units()
    # Before apt, whose scripts may ask for names.
    restore_resolv_conf(mark["before"]["resolv_conf"])
    resolved = bool(existing(("/etc/systemd/resolved.conf.d/dnsmasq.conf",)))
    for path in existing(PATHS + (DATA if data else ())):
        remove(path)
    machine.run("systemctl", "daemon-reload")
    machine.remove_packages(mark["before"]["packages"], data)
    for path, content in mark["before"]["files"].items():
        if not os.path.lexists(path):
            # A machine that was claimed before 2026-11-26 has noted the text alone.
            put_back(path, content if isinstance(content, dict) else {"content": content})
    for path in existing(tuple(mark["before"]["absent"])) if data else ():
        remove(path)
    for folder in existing(FOLDERS):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    if data:
        for path in existing(DATA):
            remove(path)
        machine.remove_users()
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", may_fail=True)
    if resolved:
        machine.run("systemctl", "restart", "systemd-resolved.service")
    if data:
        os.remove(MARK)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "lab": {"type": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "required": True},
            "adopt": {"type": "bool", "default": False},
            "data": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    mark = read_mark()
    if mark is None:
        module.exit_json(changed=False, kept=[])
    if mark["lab"] != module.params["lab"] and not module.params["adopt"]:
        module.fail_json(
            msg=f"This machine belongs to lab '{mark['name']}' of the clone in {mark['folder']}: uninstall it there, "
            "or, where that clone is gone, with -e lab_adopt=true. Nothing was changed on it."
        )
    data = module.params["data"]
    changed = data or bool(existing(PATHS))
    if changed and not module.check_mode:
        uninstall(Machine(module), mark, data)
    module.exit_json(changed=changed, kept=[] if data else existing(DATA))


if __name__ == "__main__":
    main()
