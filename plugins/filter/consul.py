"""Filter that turns the table of Consul rights into tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def consul_tokens(rights: list[dict[str, Any]], groups: dict[str, list[str]]) -> list[dict[str, Any]]:
    """A token for each right and each host of its group.

    Args:
        rights: entries with ``purpose``, ``group`` and any of ``services``, ``policies``, ``node``.
        groups: group to its hosts; one that is missing has none.

    >>> consul_tokens([{"purpose": "web", "group": "web", "services": ["web"]}], {"web": ["web-1"]})[0]["name"]
    'web/web-1'
    """
    return [
        {
            "name": f"{right['purpose']}/{host}",
            "secret": f"consul_token/{right['purpose']}/{host}",
            "services": right.get("services", []),
            "policies": right.get("policies", []),
            "nodes": [host] if right.get("node") else [],
            "templates": [],
        }
        for right in rights
        for host in groups.get(right["group"], [])
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
