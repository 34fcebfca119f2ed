"""The problems of an event's text, and where they are."""

from __future__ import annotations

import json

import pytest

from pipeline.web.dashboard.event_editor import event_problems, member_places
from schemas.event_codec import decode_event
from schemas.topics import MAX_EVENT_BYTES_LIMIT
from tests.unit.web.test_republishing import EVENT


def problems(text: str) -> list[tuple[str, int | None, int | None, str]]:
    found = event_problems(text, lambda value: decode_event(value, max_bytes=MAX_EVENT_BYTES_LIMIT))
    return [(one.sentence, one.line, one.column, one.at) for one in found]


def test_a_valid_event_has_no_problems() -> None:
    assert problems(EVENT.decode()) == []


@pytest.mark.parametrize(
    ("text", "begins", "line", "column"),
    [
        ('{"id": "evt_1"\n "data": {}}', "Expected a comma", 2, 2),
        ('{"id" "x"}', "Expected a colon", 1, 7),
        ('{"id": }', "Expected a value", 1, 8),
        ('{"id": "x"} {', "There is extra text after the end of the event", 1, 13),
        ('{"id": "x', "The text that starts here", 1, 8),
        ("", "Expected a value", 1, 1),
    ],
)
def test_invalid_json_is_reported_with_its_position(text: str, begins: str, line: int, column: int) -> None:
    [(sentence, *place, _)] = problems(text)
    assert sentence.startswith(begins)
    assert place == [line, column]


def test_a_trailing_comma_is_reported_with_its_position() -> None:
    [(sentence, line, column, _)] = problems('{"id": "evt_1",}')
    assert "comma" in sentence
    assert (line, column) in ((1, 15), (1, 16)), "Python releases differ"


def test_positions_are_counted_as_in_browsers() -> None:
    text = '{"note": "\N{PARTY POPPER}", "id" 1}'
    [one] = event_problems(text, lambda value: decode_event(value, max_bytes=MAX_EVENT_BYTES_LIMIT))
    in_utf_16 = text.encode("utf-16-le")
    assert in_utf_16[one.start * 2 : one.end * 2].decode("utf-16-le") == one.at == "1"
    assert (one.line, one.column) == (1, 20), "people count characters"


def test_invalid_members_are_reported_with_their_positions() -> None:
    event = json.loads(EVENT)
    event["occurred_at"] = "yesterday"
    event["data"]["number"] = 7
    text = json.dumps(event, indent=2)
    found = {one[3]: one for one in problems(text)}
    lines = text.split("\n")
    for name in ('"occurred_at"', '"number"'):
        if name in found:
            assert name in lines[(found[name][1] or 0) - 1]
    assert found
    del event["event_name"]
    [(sentence, line, _, _)] = problems(json.dumps(event, indent=2))
    assert (sentence, line) == ("event_name: Field required.", 1), "a missing member is reported for the whole event"


def test_positions_of_members() -> None:
    text = '{"a": [1, {"b,": "x:"}], "c": {}, "": 2}'
    found = {path: text[start:end] for path, (start, end) in member_places(text).items()}
    assert found == {"": "{", "a": '"a"', "a.0": "1", "a.1": "{", "a.1.b,": '"b,"', "c": '"c"'} | {"": found[""]}


@pytest.mark.parametrize("text", ["[" * 5000, '{"a":' * 3000, "]]]]", '"', "\ud800", "{}" * 10])
def test_hostile_texts_are_reported_and_raise_nothing(text: str) -> None:
    assert problems(text)
