"""The API of Consul, and of Vault from a managed host, which has the standard library only."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import urllib.parse
from typing import Any

# Seconds.
REQUEST_TIMEOUT = 10


class RequestError(Exception):
    """The server refused or did not answer; ``status`` is 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class HTTPSConnection(http.client.HTTPSConnection):
    """A connection to an address, whose certificate must bear a name."""

    def __init__(self, host: str, port: int, server_name: str, ca_cert: str) -> None:
        self.server_name = server_name
        self.context = ssl.create_default_context(cafile=ca_cert)
        super().__init__(host, port, timeout=REQUEST_TIMEOUT, context=self.context)

    def connect(self) -> None:
        """Connect, and expect the name instead of the host's."""
        http.client.HTTPConnection.connect(self)
        self.sock = self.context.wrap_socket(self.sock, server_hostname=self.server_name)


def ask(
    url: str,
    path: str,
    *,
    ca_cert: str = "",
    server_name: str = "",
    method: str = "GET",
    data: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    """Send one request to one server and return its JSON, ``{}`` for an empty answer.

    Args:
        url: the server's address, such as ``https://192.0.2.11:8200``.
        path: the API path without ``/v1/``.
        ca_cert: path of the CA that signed the server's certificate.
        server_name: the name that the certificate must bear; "" for the URL's host.
        method: the HTTP method.
        data: the body.
        headers: such as the one with a token.

    Raises:
        RequestError: the server refused, did not answer, or has a certificate of another CA or service.

    """
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            connection = HTTPSConnection(host, parts.port or 443, server_name or host, ca_cert)
        else:
            connection = http.client.HTTPConnection(host, parts.port or 80, timeout=REQUEST_TIMEOUT)
        try:
            body = None if data is None else json.dumps(data)
            connection.request(method, f"/v1/{path}", body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        if answer.status < 300:
            return json.loads(text) if text.strip() else {}
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RequestError(f"{url} does not answer: {error}") from error
    with contextlib.suppress(ValueError, AttributeError):
        text = "; ".join(json.loads(text).get("errors") or []) or text
    raise RequestError(f"{url}: {text.strip() or answer.reason}", answer.status)
