"""``tail`` and ``open``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest

from consumers.cli.api_client import ApiCallError, ApiClient, ForeignAnswerError, ServerEvent
from consumers.cli.live import line_of, new_attempts, page_of
from pipeline.web.event_stream import id_of_time
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import API_KEY, NOW, Service


class Source:
    """Successive streams, each of which ends as it says. An error is a stream that does not open."""

    def __init__(self, *streams: list[ServerEvent] | ApiCallError) -> None:
        self.streams = list(streams)
        self.asked: list[list[tuple[str, str]]] = []

    def events(self, path: str, params: list[tuple[str, str]]) -> Iterator[ServerEvent]:
        assert path == "attempts/live"
        self.asked.append(params)
        if not self.streams:
            raise ApiCallError("The role may not.", 403)
        stream = self.streams.pop(0)
        if isinstance(stream, ApiCallError):
            raise stream
        yield from stream
        raise ApiCallError("It does not answer any more.")


def attempts_event(*numbers: int, last_id: str = "", **more: Any) -> ServerEvent:
    return ServerEvent("attempts", {"attempts": [{"id": number} for number in numbers], **more}, last_id)


def test_each_attempt_is_shown_once_even_if_the_stream_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    source, pauses = (
        Source(
            [attempts_event(1, 2), ServerEvent("problem", {"error": "ClickHouse is away."}), attempts_event(3)],
            [attempts_event(2, 3, 4)],
        ),
        list[float](),
    )
    watched = new_attempts(source, [("q[state_eq]", "failed")], wait=pauses.append)
    assert [one["id"] for one in islice(watched, 4)] == [1, 2, 3, 4]
    with pytest.raises(ApiCallError, match="may not"):
        next(watched)
    assert source.asked[0] == [("q[state_eq]", "failed"), ("strict", "1")]
    assert len(pauses) == 2
    assert "ClickHouse is away." in capsys.readouterr().err


def test_tail_ends_when_the_key_is_revoked() -> None:
    source = Source([attempts_event(1), ServerEvent("over", {"error": "The API key is not valid any more."})])
    with pytest.raises(ApiCallError, match="not valid any more"):
        list(new_attempts(source, [], wait=lambda _: None))


def test_an_absent_api_is_reported_at_once() -> None:
    with pytest.raises(ApiCallError):
        list(new_attempts(Source([]), [], wait=lambda _: None))


def test_tail_waits_for_an_api_that_restarts(capsys: pytest.CaptureFixture[str]) -> None:
    """It used to end, because a starting API answers 503, and a proxy in front of it 502."""
    starting = ApiCallError("The service is starting.", 503)
    outage = [ApiCallError("A proxy answered 502.", 502), starting, starting, starting]
    source = Source([attempts_event(1, last_id="11")], *outage, [attempts_event(1, 2)], starting)
    watched = new_attempts(source, [], wait=lambda _: None)
    assert [one["id"] for one in islice(watched, 2)] == [1, 2]
    assert [dict(one).get("last_event_id") for one in source.asked] == [None, *["11"] * 5]
    with pytest.raises(ApiCallError, match="may not"):
        next(watched)
    broken, restarting = "It does not answer any more.", "The service is starting."
    assert capsys.readouterr().err.splitlines() == [broken, "A proxy answered 502.", restarting, broken, restarting]


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 502])
def test_the_answer_of_a_proxy_does_not_end_tail(capsys: pytest.CaptureFixture[str], status: int) -> None:
    """While the API restarts, an ingress answers with its own page. This is reported once, and retried less and less often."""
    page, pauses = ForeignAnswerError(f"This is not the API: it returned {status} with text/html.", status), list[float]()
    watched = new_attempts(Source([attempts_event(1)], *[page] * 5, [attempts_event(2)]), [], wait=pauses.append)
    assert [one["id"] for one in islice(watched, 2)] == [1, 2]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    with pytest.raises(ApiCallError, match="may not"):
        next(watched)
    assert pauses[6:] == [1.0]
    assert capsys.readouterr().err.splitlines().count(str(page)) == 1


def test_the_answer_of_another_server_is_reported_at_once_at_the_start() -> None:
    with pytest.raises(ForeignAnswerError):
        list(new_attempts(Source(ForeignAnswerError("This is not the API.", 404)), [], wait=lambda _: None))


def test_a_starting_api_ends_a_tail_that_has_just_begun() -> None:
    with pytest.raises(ApiCallError, match="is starting"):
        list(new_attempts(Source(ApiCallError("The service is starting.", 503)), [], wait=lambda _: None))


def test_attempts_missed_during_a_break_are_reported_with_the_command_to_list_them(capsys: pytest.CaptureFixture[str]) -> None:
    times = {"created_at_gteq": "2026-03-02T15:02:00.513Z", "created_at_lt": "2026-03-02T15:03:50.512Z"}
    missed = [
        {**times, "count": count, "count_is_exact": is_exact} for count, is_exact in ((1, True), (1_200, False), (None, False))
    ]
    streams = [[attempts_event(1, last_id="11"), ServerEvent("", None, "12")], [attempts_event(missed=one) for one in missed]]
    source = Source(*streams)
    with pytest.raises(ApiCallError, match="may not"):
        list(new_attempts(source, [("q[order_number_eq]", "R1 a")], wait=lambda _: None))
    assert [dict(one).get("last_event_id") for one in source.asked] == [None, "12", "12"]
    period = (
        "from 2026-03-02T15:02:00.513Z to 2026-03-02T15:03:50.512Z. List them: oms-webhooks attempts --q 'q[order_number_eq]=R1 a' "
        "--q 'q[created_at_gteq]=2026-03-02T15:02:00.513Z' --q 'q[created_at_lt]=2026-03-02T15:03:50.512Z'"
    )
    assert [line for line in capsys.readouterr().err.splitlines() if "missing" in line.lower()] == [
        f"Missing here: 1 attempt, {period}",
        f"Missing here: at least 1,200 attempts, {period}",
        f"Attempts may be missing here, {period}",
    ]


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
    assert all(part in line for part in ("MAPLE-433168345", "shipment_de", name[:11], "no response  (attempt 6)"))
    assert "not sent: expired  (attempt 6)" in line_of(attempt | {"outcome": "expired"}, {7: name}, width).plain
    whole = line_of(attempt, {}, None).plain
    assert all(part in whole for part in ("shipment_delivery_status_updated", "https://erp.example/a/long/path/of/hooks"))


def test_open_chooses_the_page_by_the_text() -> None:
    assert page_of("http://127.0.0.1:8080/api/webhook", ["R123"]) == "http://127.0.0.1:8080/webhooks/go?text=R123"
    assert page_of("http://127.0.0.1:8080", ["R742992696"]) == "http://127.0.0.1:8080/webhooks/orders/R742992696"
    assert page_of("http://127.0.0.1:8080", ["H12345678901"]) == "http://127.0.0.1:8080/webhooks/shipments/H12345678901"
    # The search box checks whether such a number is recorded as it is written.
    assert page_of("http://127.0.0.1:8080", ["r 742", "992-696"]) == "http://127.0.0.1:8080/webhooks/go?text=r+742+992-696"
    assert page_of("http://127.0.0.1:8080", ["evt_1"]) == "http://127.0.0.1:8080/webhooks/go?text=evt_1"
    assert page_of("https://shop.example", ["Marks", "&", "Spencer"]) == "https://shop.example/webhooks/go?text=Marks+%26+Spencer"


async def test_the_client_reads_the_stream_of_the_api(service: Service) -> None:
    """The real route, and its real output."""
    service.attempts.rows = (attempt_row(id=12, created_at=NOW),)

    def first(*params: tuple[str, str]) -> ServerEvent:
        with ApiClient(service.url, API_KEY) as client:
            return next(client.events("attempts/live", [("q[state_eq]", "failed"), *params]))

    event = await asyncio.to_thread(first)
    assert (event.name, [one["id"] for one in event.data["attempts"]]) == ("attempts", [12])
    assert event.id == id_of_time(NOW)
    service.attempts.rows = (attempt_row(id=11, created_at=NOW - timedelta(minutes=1)),)
    missed = await asyncio.to_thread(first, ("last_event_id", id_of_time(NOW - timedelta(minutes=2))))
    assert missed.data == {
        "attempts": [],
        "missed": {
            "created_at_gteq": "2026-03-02T15:02:00.513Z",
            "created_at_lt": "2026-03-02T15:03:50.512Z",
            "count": 1,
            "count_is_exact": False,
        },
    }

    def refused() -> None:
        with ApiClient(service.url, "nobody") as client:
            next(client.events("attempts/live", []))

    with pytest.raises(ApiCallError, match="The API key is not valid"):
        await asyncio.to_thread(refused)
