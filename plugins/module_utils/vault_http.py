"""Vault's API from a managed host, which has the standard library only."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

# Seconds.
REQUEST_TIMEOUT = 10


class RequestError(Exception):
    """Vault refused or did not answer; ``status`` is 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def ask(
    url: str, path: str, ca_cert: str, *, method: str = "GET", data: dict[str, Any] | None = None, token: str = ""
) -> dict[str, Any]:
    """Send one request to one node and return its JSON.

    Args:
        url: the node's address, such as ``https://192.0.2.11:8200``.
        path: the API path without ``/v1/``.
        ca_cert: path of the CA that signed the node's certificate.
        method: the HTTP method.
        data: the body.
        token: the token, "" for none.

    Raises:
        RequestError: Vault refused, did not answer, or has a certificate of another CA.
    """
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_cert)),
    )
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/{path}",
        method=method,
        data=None if data is None else json.dumps(data).encode(),
        headers={"X-Vault-Request": "true", **({"X-Vault-Token": token} if token else {})},
    )
    try:
        with opener.open(request, timeout=REQUEST_TIMEOUT) as response:
            body = response.read()
            return dict(json.loads(body)) if body else {}
    except urllib.error.HTTPError as error:
        body = error.read()
        try:
            text = "; ".join(json.loads(body).get("errors") or []) or str(error)
        except (ValueError, AttributeError):
            text = str(error)
        raise RequestError(f"{url}: {text}", error.code) from error
    except (OSError, ValueError) as error:
        raise RequestError(f"{url} does not answer: {error}") from error
