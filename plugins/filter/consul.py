"""Filters that turn the table of services into Consul's tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def consul_tokens(services: dict[str, dict[str, Any]], groups: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Each token of each service, once for each host of its group.

    Args:
        services: ``lab_services``; of an entry, ``group`` and ``tokens`` count (group_vars/lab/services.yml).
        groups: group to its hosts; one that is missing has none.

    >>> consul_tokens({"web": {"group": "web", "tokens": {"web": {}}}}, {"web": ["web-1"]})[0]["name"]
    'web/web-1'
    """
    return [
        {
            "name": f"{name}/{host}",
            "secret": f"consul_token/{name}/{host}",
            "services": rights.get("services", []),
            "policies": rights.get("policies", []),
            "nodes": [host] if rights.get("node") else [],
            "templates": [],
        }
        for service in services.values()
        for name, rights in service.get("tokens", {}).items()
        for host in groups.get(service["group"], [])
    ]


def with_secrets(tokens: list[dict[str, Any]], secrets: dict[str, str]) -> list[dict[str, Any]]:
    """The tokens as the ``consul_acl`` module takes them: ``secret`` (a name) becomes ``secret_id`` (its value)."""
    return [
        {**{key: value for key, value in token.items() if key != "secret"}, "secret_id": secrets[token["secret"]]}
        for token in tokens
    ]


class FilterModule:
    """Offers the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filter name to function."""
        return {"consul_tokens": consul_tokens, "with_secrets": with_secrets}
