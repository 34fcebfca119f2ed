"""``tail`` and ``open``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from consumers.cli.api_client import ApiCallError, ApiClient
from consumers.cli.live import line_of, new_attempts, page_of
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import API_KEY, NOW, Service


class Source:
    """Streams, one after the other; each ends as it says."""

    def __init__(self, *streams: list[tuple[str, Any]]) -> None:
        self.streams = list(streams)
        self.asked: list[list[tuple[str, str]]] = []

    def events(self, path: str, params: list[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        assert path == "attempts/live"
        self.asked.append(params)
        if not self.streams:
            raise ApiCallError("The role may not.", 403)
        yield from self.streams.pop(0)
        raise ApiCallError("It does not answer any more.")


def told(*numbers: int) -> tuple[str, Any]:
    return "attempts", {"attempts": [{"id": number} for number in numbers]}


def test_each_attempt_is_shown_once_also_when_the_stream_breaks_off(capsys: pytest.CaptureFixture[str]) -> None:
    source, pauses = Source([told(1, 2), ("problem", {"error": "ClickHouse is away."}), told(3)], [told(2, 3, 4)]), list[float]()
    watched = new_attempts(source, [("q[state_eq]", "failed")], wait=pauses.append)
    assert [one["id"] for one in islice(watched, 4)] == [1, 2, 3, 4]
    with pytest.raises(ApiCallError, match="may not"):
        next(watched)
    assert source.asked[0] == [("q[state_eq]", "failed"), ("strict", "1")]
    assert len(pauses) == 2
    assert "ClickHouse is away." in capsys.readouterr().err


def test_a_key_that_is_revoked_ends_it() -> None:
    source = Source([told(1), ("over", {"error": "The API key is not valid any more."})])
    with pytest.raises(ApiCallError, match="not valid any more"):
        list(new_attempts(source, [], wait=lambda _: None))


def test_nobody_there_is_told_at_once() -> None:
    with pytest.raises(ApiCallError):
        list(new_attempts(Source([]), [], wait=lambda _: None))


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("name", ["ERP", "The warehouse of the shop in the north of Hamburg"])
def test_a_line_fits_the_terminal(width: int, name: str) -> None:
    attempt = {
        "event_name": "shipment_delivery_status_updated",
        "order_number": "MAPLE-433168345",
        "stock_item_id": None,
        "endpoint_id": 7,
        "target_url": "https://erp.example/a/long/path/of/hooks",
        "state": "failed",
        "outcome": "exhausted",
        "http_status_code": None,
        "attempt": 6,
        "created_at": "2026-03-02T15:05:00.007Z",
    }
    line = line_of(attempt, {7: name}, width).plain
    assert len(line) <= width
    assert all(part in line for part in ("MAPLE-433168345", "shipment_de", name[:11], "no answer  (attempt 6)"))
    assert "not sent: expired  (attempt 6)" in line_of(attempt | {"outcome": "expired"}, {7: name}, width).plain
    whole = line_of(attempt, {}, None).plain
    assert all(part in whole for part in ("shipment_delivery_status_updated", "https://erp.example/a/long/path/of/hooks"))


def test_a_page_is_named_by_what_was_typed() -> None:
    assert page_of("http://127.0.0.1:8080/api/webhook", ["R123"]) == "http://127.0.0.1:8080/webhooks/go?text=R123"
    assert page_of("http://127.0.0.1:8080", ["R742992696"]) == "http://127.0.0.1:8080/webhooks/orders/R742992696"
    assert page_of("http://127.0.0.1:8080", ["H12345678901"]) == "http://127.0.0.1:8080/webhooks/shipments/H12345678901"
    # The search box looks whether such a number is on record as it is written.
    assert page_of("http://127.0.0.1:8080", ["r 742", "992-696"]) == "http://127.0.0.1:8080/webhooks/go?text=r+742+992-696"
    assert page_of("http://127.0.0.1:8080", ["evt_1"]) == "http://127.0.0.1:8080/webhooks/go?text=evt_1"
    assert page_of("https://shop.example", ["Marks", "&", "Spencer"]) == "https://shop.example/webhooks/go?text=Marks+%26+Spencer"


async def test_the_client_reads_the_stream_of_the_api(service: Service) -> None:
    """The real route, and what it writes."""
    service.attempts.rows = (attempt_row(id=12, created_at=NOW),)

    def first() -> tuple[str, Any]:
        with ApiClient(service.url, API_KEY) as client:
            return next(client.events("attempts/live", [("q[state_eq]", "failed")]))

    name, data = await asyncio.to_thread(first)
    assert (name, [one["id"] for one in data["attempts"]]) == ("attempts", [12])

    def refused() -> None:
        with ApiClient(service.url, "nobody") as client:
            next(client.events("attempts/live", []))

    with pytest.raises(ApiCallError, match="not one of this service's keys"):
        await asyncio.to_thread(refused)
