"""The output of the demo."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from consumers.cli import demo
from consumers.cli.api_client import ApiClient
from consumers.cli.demo import _SUBSCRIPTIONS, DemoLedger, DemoSummary, _count_until_settled, _print_delivery
from pipeline.devtools.receiver import Received, Receiver
from schemas.event import EventType


@pytest.mark.parametrize("event", EventType)
@pytest.mark.parametrize("name", _SUBSCRIPTIONS)
def test_an_attempt_is_one_line_on_a_terminal(event: EventType, name: str) -> None:
    body = json.dumps({"event_name": event, "data": {"number": "CHORD-000111222"}}).encode()
    written = io.StringIO()
    _print_delivery(Console(file=written), name, Received("/", "evt_1", 6, "refused", 500, "as asked", 0.0, {}, body))
    line = written.getvalue().rstrip("\n")
    assert len(line) <= 80
    assert line.endswith(f"CHORD-000111222 -> {name:6} 500 (try 6)")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # Sent by "endpoints verify": the answer was 500, because this line could not be written.
        (b'{"event_name":"webhook.verify","data":{"endpoint_id":1,"target_url":"http://127.0.0.1/"}}', "webhook.verify"),
        (b'{"event_name":"endpoint.failing","data":{"id":7}}', "endpoint.failing"),
        (b'{"event_name":"refund_issued","data":{"number":5}}', "refund_issued                    5"),
        (b'{"event_name":"refund_issued","data":[]}', "(not an event)"),
        (b"hello", "(not an event)"),
        (b"\xff", "(not an event)"),
        (b"", "(not an event)"),
    ],
)
def test_any_request_to_a_receiver_is_one_line(body: bytes, expected: str) -> None:
    written = io.StringIO()
    _print_delivery(Console(file=written, width=200), "erp", Received("/", "", 1, "acknowledged", 204, "", 0.0, {}, body))
    [line] = written.getvalue().splitlines()
    assert line[10:].split("->")[0].rstrip() == expected


SETTLED = DemoSummary(
    events=10,
    wanted=14,
    outcomes=Counter(delivered=13, repeated=4, exhausted=1),
    received=18,
    acknowledged=13,
    needle="r1",
    found=1,
    found_wanted=1,
)


def test_matching_numbers_are_settled() -> None:
    assert (SETTLED.problems(), SETTLED.is_settled, SETTLED.unfinished) == ([], True, 0)
    lost = replace(SETTLED, wanted=15)
    assert lost.problems() == ["15 notifications were due, 13 delivered + 1 given up"]
    assert not lost.is_settled


def test_after_ctrl_c_records_may_be_missing_but_never_too_many() -> None:
    waiting = replace(SETTLED, wanted=16, received=20, acknowledged=14, found=0, interrupted=True)
    assert (waiting.problems(), waiting.is_settled, waiting.unfinished) == ([], False, 2)
    assert replace(waiting, received=17).problems() == ["18 attempts are recorded, but the receivers got 17"]


def test_manual_actions_are_not_reported_as_problems() -> None:
    assert replace(SETTLED, received=30, wanted=10, by_hand=True).problems() == []


async def test_manual_actions_while_the_numbers_settle_are_noticed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Iterator[bool] = iter([False, True])
    monkeypatch.setattr(demo, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(demo, "_summarise", lambda *_: replace(SETTLED, received=19))  # a resend
    monkeypatch.setattr(demo, "_has_been_touched", lambda *_: next(found))
    receivers = {name: Receiver(name) for name in _SUBSCRIPTIONS}
    with ApiClient("http://127.0.0.1:1", "k") as client:
        summary = await _count_until_settled(asyncio.Event(), DemoLedger(), receivers, client)
    assert (summary.by_hand, summary.problems()) == (True, [])
