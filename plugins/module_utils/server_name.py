"""Requests to servers that are reached by their address, and known by the name of their service.

A certificate names its service and nothing else, neither machine nor address, so that no other service's certificate
passes for it. Who connects by address says which name it expects.
"""

from __future__ import annotations

from typing import Any

import requests
import requests.adapters


class ServerNameAdapter(requests.adapters.HTTPAdapter):
    """Expects a name in the server's certificate, whatever host the URL names."""

    def __init__(self, server_name: str) -> None:
        self.server_name = server_name  # init_poolmanager is called by the next line
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Let every connection ask for the name and verify it."""
        super().init_poolmanager(*args, server_hostname=self.server_name, **kwargs)


def new_session(ca_cert: str, server_name: str) -> requests.Session:
    """A session that trusts one CA and one name only, whatever proxies and CA bundles the environment names.

    Args:
        ca_cert: path of the CA.
        server_name: the name that each server's certificate must bear.

    """
    session = requests.Session()
    session.trust_env = False
    session.verify = ca_cert
    session.mount("https://", ServerNameAdapter(server_name))
    return session
