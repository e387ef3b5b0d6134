"""Filters of playbooks/survey.yml: what a machine is asked, and what is said of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.hashistack.lab.plugins.modules.host_survey import CLOCK_SECONDS


def ports(services: Mapping[str, Mapping[str, Any]], groups: list[str]) -> list[int]:
    """The ports of the services of a machine that is in these groups."""
    own = [entry for entry in services.values() if entry["group"] in (*groups, "lab")]
    return sorted({port for entry in own for port in _ports(entry)})


def _ports(entry: Mapping[str, Any]) -> list[int]:
    return [*([entry["port"]] if "port" in entry else []), *entry.get("between", ())]


def machine_roles(services: Mapping[str, Mapping[str, Any]], groups: list[str]) -> list[str]:
    """The roles that run on a machine that is in these groups."""
    own = {name: entry for name, entry in services.items() if entry["group"] in (*groups, "lab")}
    return sorted({role for name, entry in own.items() for role in entry.get("roles", [name])})


def reach_targets(
    services: Mapping[str, Mapping[str, Any]],
    host: str,
    groups: Mapping[str, list[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    surveyed: list[str],
) -> list[dict[str, Any]]:
    """What a machine, or with ``host`` empty the controller, must reach, as host_reach takes it.

    Args:
        services: ``lab_services``: those that a service ``serves`` come to its port, its ``callers`` to what that says.
            The controller comes to each port where no service is served.
        host: who comes.
        groups: group to its hosts.
        hostvars: each with its ``lab_address`` and, after its survey, ``__survey``.
        surveyed: the machines of this run.

    """
    targets = []
    for name, entry in services.items():
        served = {services[client]["group"] for client in entry.get("serves", ())}
        callers = {**{group: [entry["port"]] for group in served}, **entry.get("callers", {})}
        if host:
            wanted = sorted({port for group, many in callers.items() if host in groups.get(group, ()) for port in many})
        else:
            wanted = [entry["port"]] if "port" in entry and not served else []
        for other in groups.get(entry["group"], ()):
            survey = hostvars[other].get("__survey", {})
            if other == host or other not in surveyed or survey.get("problems") != []:
                continue
            for port in wanted:
                for udp in (False, True) if name == "agent" else (False,):
                    targets.append(
                        {
                            "name": other,
                            "address": hostvars[other]["lab_address"],
                            "port": port,
                            "service": "consul" if name == "agent" else name,
                            "udp": udp,
                            "listens": not survey["claimed"],
                        }
                    )
    return targets


def survey_problems(hostvars: Mapping[str, Mapping[str, Any]], hosts: list[str], now: float) -> list[str]:
    """All that was found wrong on machines, and with the way to them; ``now`` is this computer's clock."""
    problems = []
    for host in hosts:
        survey = hostvars[host].get("__survey", {})
        if "problems" in survey:
            problems += survey["problems"]
            ahead = survey.get("clock", now) - now
            if ahead > CLOCK_SECONDS:
                problems.append(
                    f"{host}: its clock is {ahead:.0f} s ahead of this computer's: set it, best by 'apt-get install "
                    "systemd-timesyncd' there, or certificates are not valid yet."
                )
            continue
        said = " ".join(str(survey.get("msg", "no answer")).split())[-300:]
        problems.append(
            f"{host}: Ansible does not get in as root ({said}): see that ssh gets in from here without a question, "
            "with the host's key known; that the user may use sudo, where it asks for a password with ARGS=-K; and "
            "that python3 is installed there."
        )
    control = [host for host in hosts if "control" in hostvars[host].get("group_names", ())]
    problems += _other_kinds({host: hostvars[host].get("__survey", {}) for host in control})
    for host in hosts:
        problems += hostvars[host].get("__reach", {}).get("problems", [])
    return problems


def _other_kinds(control: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Control machines with another kind of processor than the first's, by their surveys."""
    kinds = {host: survey["architecture"] for host, survey in control.items() if "architecture" in survey}
    first = next(iter(kinds), "")
    return [
        f"{host}: its processor is of another kind ({kind}) than {first}'s ({kinds[first]}): take control machines of "
        "one kind, since Vault knows each plugin by one checksum. Other machines may be of any."
        for host, kind in kinds.items()
        if kind != kinds[first]
    ]


class FilterModule:
    """Offers the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filter name to function."""
        return {
            "machine_roles": machine_roles,
            "ports": ports,
            "reach_targets": reach_targets,
            "survey_problems": survey_problems,
        }
