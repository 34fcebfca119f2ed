"""What is made of checked values is what the models make, with every field."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from multidict import istr
from pydantic import BaseModel

from pipeline.core.attempts import attempt_record
from pipeline.core.exchange import Exchange, Failure, NoResponse, Response, bounded_headers
from pipeline.core.outcome import Delivered, Exhausted, Repeat, Verdict
from schemas.attempt import Attempt
from schemas.checked import checked
from schemas.codec import decode_event, to_json
from schemas.delivery import Trigger
from schemas.event import EventMeta, EventType
from tests.unit.sample_events import META, NOW, event_of


def assert_as_validated(record: BaseModel) -> None:
    model = type(record)
    assert set(record.__dict__) == set(model.model_fields), "every field must be given, those with defaults too"
    validated = model.model_validate(record.__dict__, strict=True)
    assert validated == record
    assert model.model_validate_json(to_json(record)) == record
    assert record.model_copy(update={}) == record
    with pytest.raises(Exception, match="frozen"):
        record.__setattr__(next(iter(model.model_fields)), None)


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (Response(204, bounded_headers([(istr("Content-Type"), "text/plain")]), b"", False, 1.23456, 1.0), Delivered()),
        (Response(503, (), b"\xff", True, 1.0, 1.0), Repeat(timedelta(seconds=5))),
        (Response(1000, (), b"x", False, 1.0, 1.0), Exhausted()),
        (NoResponse(Failure.TIMEOUT, "no answer", 15_000.0), Repeat(timedelta(minutes=1))),
        (NoResponse(Failure.TRUNCATED, "cut off", 15.0, 200, (("a", "b"),), b"x"), Exhausted()),
    ],
    ids=["delivered", "repeated", "odd status", "no answer", "half an answer"],
)
def test_attempts(exchange: Exchange, verdict: Verdict) -> None:
    record = attempt_record(
        META,
        endpoint_id=7,
        target_url="https://hooks.example.com/",
        attempt=2,
        trigger=Trigger.REPEAT,
        started_at=NOW,
        finished_at=NOW,
        request_headers={"webhook-id": "evt_1"},
        exchange=exchange,
        verdict=verdict,
    )
    assert isinstance(record, Attempt)
    assert_as_validated(record)


@pytest.mark.parametrize("event_type", EventType)
def test_events(event_type: EventType) -> None:
    meta = decode_event(event_of(event_type), max_bytes=1 << 20, received_at=NOW).meta
    assert isinstance(meta, EventMeta)
    assert_as_validated(meta)


def test_unknown_members_of_newer_releases_have_a_place() -> None:
    members: dict[str, Any] = dict(META.__dict__)
    assert checked(EventMeta, members).model_copy(update={"later": 1}).model_dump()["later"] == 1
