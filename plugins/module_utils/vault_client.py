"""What the vault_* modules share: a connection to the node of a Vault cluster that answers, by hvac."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

try:
    import hvac
    import hvac.adapters
    import requests
    from ansible_collections.hashistack.lab.plugins.module_utils.server_name import new_session

    HVAC_ERROR = ""
except ImportError as error:  # reported by a sentence in open_vault
    HVAC_ERROR = str(error)

# Seconds.
REQUEST_TIMEOUT = 30
RETRY_EVERY = 0.25
# Texts of Vault's answers 500 and 503 that pass when the cluster has a leader again.
PASSING = (
    "active cluster node not found",
    "local node not active",
    "error during forwarding",
    "failed to find leader",
    "node is not the leader",
    "leadership lost",
    "context deadline exceeded",
    "connection refused",
    "upgrading from non-versioned to versioned",
)


class VaultError(Exception):
    """A request that Vault refused, or that reached no Vault. ``status`` is 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Fails(Protocol):
    """The part of AnsibleModule that `open_vault` needs."""

    params: dict[str, Any]
    check_mode: bool

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        """End the module with an error."""

    def exit_json(self, **kwargs: Any) -> NoReturn:
        """End the module with a result."""


CONNECTION_ARGUMENTS: dict[str, dict[str, Any]] = {
    "url": {"type": "list", "elements": "str", "required": True},
    "ca_cert": {"type": "path", "required": True},
    "server_name": {"type": "str", "required": True},
    "timeout": {"type": "int", "default": 60},
}
TOKEN_ARGUMENTS: dict[str, dict[str, Any]] = {"token_file": {"type": "path", "required": True, "no_log": False}}


def errors_of(response: requests.Response) -> str:
    """The sentences of an answer's ``errors``, or its text."""
    try:
        errors = response.json().get("errors") or []
    except (ValueError, AttributeError):
        errors = [response.text.strip()]
    return "; ".join(str(error).strip() for error in errors) or f"status {response.status_code}"


class Vault:
    """A Vault cluster: every request goes to the first node that answers, and waits out a change of leader.

    Args:
        urls: addresses of nodes, such as ``https://192.0.2.11:8200``; any may be down.
        ca_cert: path of the CA that signed the nodes' certificates.
        server_name: the name that these must bear.
        token: a token, or "" for requests that need none.
        timeout: seconds for which a request is repeated while no node can serve it.
    """

    def __init__(self, urls: list[str], ca_cert: str, server_name: str, token: str = "", timeout: float = 60) -> None:
        self.urls = [url.rstrip("/") for url in urls]
        self.timeout = timeout
        self.session = new_session(ca_cert, server_name)
        self.current = self.urls[0]
        self._client = hvac.Client(
            url=self.current,
            token=token,
            session=self.session,
            adapter=hvac.adapters.RawAdapter,
            timeout=REQUEST_TIMEOUT,
        )

    @property
    def token(self) -> str:
        """The token of the requests."""
        return str(self._client.token or "")

    @token.setter
    def token(self, token: str) -> None:
        self._client.token = token

    def status(self, url: str) -> dict[str, Any]:
        """One node's seal status and leader, with no token; raises `VaultError` where it does not answer."""
        answers: dict[str, Any] = {}
        for path in ("sys/seal-status", "sys/leader"):
            try:
                response = self.session.get(f"{url}/v1/{path}", timeout=5)
                answers.update(response.json())
            except (requests.exceptions.RequestException, ValueError) as error:
                raise VaultError(f"{url} does not answer: {error}") from error
            if response.status_code != 200 and path == "sys/seal-status":
                raise VaultError(f"{url}: {errors_of(response)}", response.status_code)
        return answers

    def _choose(self) -> str:
        """The first node that can serve a request; raises `VaultError` that says what is wrong with each."""
        found = []
        for url in [self.current, *(url for url in self.urls if url != self.current)]:
            try:
                status = self.status(url)
            except VaultError as error:
                found.append(str(error))
                continue
            if not status.get("initialized"):
                found.append(f"{url} is not initialised")
            elif status.get("sealed"):
                found.append(f"{url} is sealed")
            elif not status.get("is_self") and not status.get("leader_address"):
                found.append(f"{url} knows no active node")
            else:
                self.current = self._client.url = url
                return url
        raise VaultError("No node of Vault can serve a request: " + "; ".join(found))

    def request(
        self,
        method: str,
        path: str,
        data: dict[str, Any] | None = None,
        *,
        wrap_ttl: str = "",
        missing: Callable[[dict[str, Any]], Any] | None = None,
    ) -> dict[str, Any]:
        """Send a request and return its JSON, ``{}`` for an empty answer and for 404.

        Args:
            method: GET, POST, PUT, LIST or DELETE.
            path: the API path without ``/v1/``.
            data: the body.
            wrap_ttl: lifetime of a wrapped answer, such as ``300s``; "" for no wrapping.
            missing: called with the JSON of an answer 404; its result is ignored.

        Raises:
            VaultError: Vault refused, or nothing served the request within the timeout.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                response = self._client.adapter.request(
                    method,
                    f"/v1/{path}",
                    raise_exception=False,
                    json=data,
                    **({"wrap_ttl": wrap_ttl} if wrap_ttl else {}),
                )
                if response.ok:
                    return dict(response.json()) if response.content else {}
                if response.status_code == 404 and method in ("GET", "LIST", "DELETE"):
                    if missing is not None and response.content:
                        missing(response.json())
                    return {}
                problem = VaultError(f"{method} {path}: {errors_of(response)}", response.status_code)
                passing = response.status_code in (429, 502, 503) or (
                    response.status_code in (400, 500) and any(text in str(problem) for text in PASSING)
                )
            except requests.exceptions.RequestException as error:
                problem, passing = VaultError(f"{method} {path}: {self.current} does not answer: {error}"), True
            if not passing:
                raise problem
            while True:
                if time.monotonic() > deadline:
                    raise problem
                time.sleep(RETRY_EVERY)
                try:
                    self._choose()
                    break
                except VaultError as error:
                    problem = VaultError(f"{method} {path}: {error}", problem.status)

    def read(self, path: str) -> dict[str, Any] | None:
        """The answer to GET, or None where nothing is there."""
        return self.request("GET", path) or None

    def write(self, path: str, data: dict[str, Any] | None = None, *, wrap_ttl: str = "") -> dict[str, Any]:
        """The answer to POST."""
        return self.request("POST", path, data, wrap_ttl=wrap_ttl)

    def delete(self, path: str) -> None:
        """Send DELETE; fine where nothing is there."""
        self.request("DELETE", path)

    def list(self, path: str) -> list[str]:
        """The keys at a path, [] where there are none."""
        return [str(key) for key in self.request("LIST", path).get("data", {}).get("keys") or []]


def read_token(path: str) -> str:
    """The token in a file; raises `VaultError` with the remedy where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            token = stream.read().strip()
    except FileNotFoundError:
        token = ""
    if not token:
        raise VaultError(f"There is no Vault token in {path}. Run the vault playbook, which makes it.")
    return token


def open_vault(module: Fails, *, with_token: bool = True, unborn: dict[str, Any] | None = None) -> Vault:
    """The Vault that a module's parameters name; ends the module where hvac or the token is missing.

    In check mode before the first real run there is no token yet: the module then ends as changed, with ``unborn``
    as the rest of its result.
    """
    if HVAC_ERROR:
        module.fail_json(msg=f"The controller's Python lacks hvac, which this module needs: {HVAC_ERROR}")
    try:
        token = read_token(module.params["token_file"]) if with_token else ""
    except VaultError as error:
        if module.check_mode:
            module.exit_json(changed=True, msg=str(error), **(unborn or {}))
        module.fail_json(msg=str(error))
    params = module.params
    return Vault(params["url"], params["ca_cert"], params["server_name"], token, params["timeout"])
