"""What is made of checked values is what the models make, with every field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from schemas.checked import checked
from schemas.codec import decode_event, to_json
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


@pytest.mark.parametrize("event_type", EventType)
def test_events(event_type: EventType) -> None:
    meta = decode_event(event_of(event_type), max_bytes=1 << 20, received_at=NOW).meta
    assert isinstance(meta, EventMeta)
    assert_as_validated(meta)


def test_unknown_members_of_newer_releases_have_a_place() -> None:
    members: dict[str, Any] = dict(META.__dict__)
    assert checked(EventMeta, members).model_copy(update={"later": 1}).model_dump()["later"] == 1
