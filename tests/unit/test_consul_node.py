"""When a server of Consul is told to drop a member."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.modules.consul_node import forget

URLS = ["https://10.0.0.1:8501", "https://10.0.0.2:8501"]


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        pytest.param((4, 4), URLS, id="failed"),
        pytest.param((3, 4), URLS, id="left"),
        pytest.param((4, 1), [], id="one still takes it for alive"),
        pytest.param((2, 2), [], id="it is leaving"),
        pytest.param((None, 4), URLS[1:], id="one knows it no more"),
    ],
)
def test_a_member_is_dropped_once_all_take_it_for_gone(statuses: tuple[int | None, ...], told: list[str]) -> None:
    """A server that is told sooner hears of no other member's failure for eight seconds."""
    asked: list[tuple[str, str]] = []

    def api(url: str, path: str, method: str = "GET", **_options: Any) -> Any:
        if method == "GET":
            status = statuses[URLS.index(url)]
            return [{"Name": "backend-2", "Status": 1}] + [{"Name": "backend-3", "Status": status}] * (
                status is not None
            )
        asked.append((url, path))
        return None

    forget(api, URLS, "backend-3")
    dropped = [(url, "agent/force-leave/backend-3?prune=1") for url in told]
    assert asked == [(URLS[0], "catalog/deregister"), *dropped], "clients are told of it no more in any case"
