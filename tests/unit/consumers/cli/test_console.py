"""Output is complete: on a terminal of any width, and in a pipe, where each row is a line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import RenderableType
from rich.text import Text

from consumers.cli import tables
from consumers.cli.console import Output, Rows, json_text
from pipeline.broker.topic_admin import Difference, Growth
from pipeline.ops.reachability import CheckResult
from pipeline.ops.settings import Settings

TIME = "2026-03-02T15:05:00.007Z"
URL = "https://shop.example/a/long/path/of/an/integrator/hooks?channel=17"
CURSOR = "MTc3MjQ2MzkwMDAwN3wxNDY4MDA2NDAwMDAwMDAwMXxk"
ATTEMPT: dict[str, Any] = {
    "id": 14680064000000001,
    "event_name": "subscription_payment_failed_twice",
    "endpoint_id": 7,
    "target_url": URL,
    "outcome": "exhausted",
    "attempt": 6,
    "http_status_code": 503,
    "failure": None,
    "error": "The endpoint returned 503 [red](Service Unavailable).",
    "duration_ms": 12.5,
    "created_at": TIME,
    "order_number": "R758805215",
    "stock_item_id": None,
}
PAGE = {
    "attempts": [ATTEMPT],
    "total_count": 1000,
    "total_count_is_exact": True,
    "current_page": 1,
    "pages": 40,
    "next_cursor": CURSOR,
}
ENDPOINT = {"id": 12345, "target_url": URL, "events": ["order_completed"], "state": "active", "description": "a shop"}


def printed(what: RenderableType, width: int | None) -> str:
    """Print as on a terminal of this width, or as in a pipe if it is None."""
    file = io.StringIO()
    Output(file=file, force_terminal=width is not None, width=width, color_system=None).print(what)
    return file.getvalue()


def attempts() -> RenderableType:
    return tables.attempts(PAGE)


def endpoints() -> RenderableType:
    return tables.endpoints([ENDPOINT])


def settings() -> RenderableType:
    return tables.settings(Settings())


def topics() -> RenderableType:
    specs = Settings().topics.specs()
    return tables.topics(specs, 12, [], [Difference(specs[0].name, "retention.ms", "7 days", "1 day")])


def dead_letters() -> RenderableType:
    letter = {"id": 14680064000000001, "failed_at": TIME, "reason": "not_json", "topic": "oms.stock-items", "partition": 127}
    page = {"dead_letters": [letter | {"offset": 10**9, "size": 10, "detail": "No JSON."}], "total_count": 1}
    return tables.dead_letters(page | {"current_page": 1, "pages": 1})


def keys() -> RenderableType:
    key = {
        "id": "0123456789abcdef",
        "name": "the-warehouse-of-hamburg",
        "role": "operator",
        "created_at": TIME,
        "created_by": "omsw_12345678",
    }
    return tables.keys({"keys": [key]})


def growth() -> RenderableType:
    return tables.growth([Growth("acceptance.oms.webhooks.endpoint-health.of-the-shop", 12, 24)])


def findings() -> RenderableType:
    return tables.findings([CheckResult("Kafka: broker-1.kafka.internal.example:9092", "Could not connect.")])


def answer() -> RenderableType:
    columns = [[name, "String"] for name in ("event_id", "order_number", "target_url", "created_at")]
    return tables.answer({"columns": columns, "rows": [["evt_0123456789", "R758805215", URL, TIME]], "seconds": 0.1})


ALL: dict[Callable[[], RenderableType], list[str]] = {
    endpoints: ["12345", "order_completed", "active"],
    settings: [f"OMS_WEBHOOKS_{name.upper()}" for name in Settings.model_fields],
    topics: [spec.name for spec in Settings().topics.specs()],
    dead_letters: ["14680064000000001", TIME, "not_json", "oms.stock-items 127/1000000000"],
    keys: ["0123456789abcdef", "the-warehouse-of-hamburg", TIME, "omsw_12345678"],
    growth: ["acceptance.oms.webhooks.endpoint-health.of-the-shop"],
    findings: ["Kafka: broker-1.kafka.internal.example:9092"],
    answer: ["R758805215", TIME],
}


LEFT_OUT = {
    endpoints: ("order_completed",),
    dead_letters: ("oms.stock-items 127/1000000000",),
    keys: (TIME, "omsw_12345678"),
}
"""Values in columns that a narrow terminal does not show."""


def test_text_of_a_producer_does_not_control_the_terminal() -> None:
    escape, shown = "R1\x1b[2J", r"R1\x1b[2J"
    event = {"received_at": TIME, "event_name": "order_completed", "order_number": escape, "id": "evt_1"}
    failure = {"expression": "data.total > 1", "reason": f"It is {escape}.", "count": 1, "event_id": "evt_1"}
    found = {"sentence": "It would have received 1 event.", "failures": [failure], "would": [event], "would_not": [event]}
    text = printed(tables.preview(found), None)
    assert (text.count("\x1b"), text.count(shown)) == (0, 3)


@pytest.mark.parametrize("width", [80, 100, 130, 200])
@pytest.mark.parametrize("made", ALL)
def test_ids_times_and_names_are_complete_on_a_terminal(made: Callable[[], RenderableType], width: int) -> None:
    text = printed(made(), width)
    left_out = LEFT_OUT.get(made, ()) if "Columns hidden because" in text else ()
    assert [one for one in ALL[made] if one not in text and one not in left_out] == []
    assert text.count("…") == printed(made(), None).count("…"), "no ellipsis of rich, which would mean that text was cut"
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("made", ALL)
def test_in_a_pipe_each_row_is_a_line(made: Callable[[], RenderableType]) -> None:
    wanted = ALL[made]
    lines = printed(made(), None).splitlines()
    if made in (settings, topics):
        assert all(any(name in line for line in lines) for name in wanted)
    else:
        assert any(all(one in line for one in wanted) for line in lines)


def test_long_texts_are_folded_without_losing_letters() -> None:
    cells = [line.split("│")[2].strip() for line in printed(endpoints(), 80).splitlines() if line.startswith("│")]
    assert (len(cells) > 1, "".join(cells)) == (True, URL)
    assert URL in "".join(printed(attempts(), 40).split())


def test_if_a_table_is_too_wide_each_row_is_a_block() -> None:
    rows = Rows("id", "order", "note", folded=("note",))
    rows.add("1", "R1", "a " * 40)
    rows.add("2", "", Text("red", "red"))
    blocks = [line.split() for line in printed(rows, 20).splitlines()]
    assert blocks[:3] == [["id", "1"], ["order", "R1"], ["note", *"aaaaaaa"]]
    assert blocks[-4:] == [[], ["id", "2"], ["note", "red"], []]
    assert "│" not in printed(rows, 32)
    assert "│" in printed(rows, 33)


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (80, ["time", "order", "/", "item", "event", "endpoint", "outcome", "code"]),
        (100, ["time", "order", "/", "item", "event", "endpoint", "try", "outcome", "code", "ms"]),
        (160, ["id", "time", "order", "/", "item", "event", "endpoint", "try", "outcome", "code", "ms", "error"]),
    ],
)
def test_an_attempt_is_one_line_on_a_terminal(width: int, headings: list[str]) -> None:
    today = ATTEMPT | {"created_at": datetime.now(UTC).isoformat(), "order_number": "MAPLE-433168345"}
    text = printed(tables.attempts(PAGE | {"attempts": [today, ATTEMPT]}, {7: "ERP of the shop"}), width)
    head, first, second, *below = text.splitlines()
    assert head.split() == headings
    assert ("MAPLE-433168345" in first, "R758805215" in second) == (True, True)
    for line in (first, second):
        assert all(part in line for part in ("subscription_p", "7 ERP of the s", "gave up", "503")), line
    assert max(map(len, text.splitlines())) <= width
    assert CURSOR in "".join(below)
    assert "or --json." in " ".join(below), "hidden or shortened values are announced, with where to see them"


def test_in_a_pipe_an_attempt_is_complete() -> None:
    lines = printed(attempts(), None).splitlines()
    wanted = (str(ATTEMPT["id"]), TIME, ATTEMPT["event_name"], "R758805215", URL, "gave up", "503", ATTEMPT["error"])
    assert any(all(one in line for one in wanted) for line in lines)


def test_on_a_very_narrow_terminal_an_attempt_is_a_block() -> None:
    blocks = printed(attempts(), 50)
    assert all(one in blocks for one in (str(ATTEMPT["id"]), TIME, ATTEMPT["event_name"]))


def test_names_cannot_reverse_the_text_direction() -> None:
    assert "\u202e" not in printed(tables.endpoints([ENDPOINT | {"description": "Evil \u202egnp.exe"}]), 100)


def test_cells_are_neither_markup_nor_terminal_control() -> None:
    rows = Rows("a", "b", folded=("b",))
    rows.add("[red]x[/red] :smile:", "one\ntwo\x1b[2J\r\u2028three")
    (line,) = [line for line in printed(rows, None).splitlines() if "smile" in line]
    assert "[red]x[/red] :smile:" in line
    assert r"one\ntwo\x1b[2J\r\u2028three" in line


def test_headings_are_shown_without_rows() -> None:
    assert "id" in printed(Rows("id", "name", caption="none"), 80)
    assert printed(Rows("id", "name", caption="none"), 80).endswith("none\n")


def test_an_empty_list_says_so() -> None:
    empty = {"current_page": 1, "pages": 0, "total_count": 0, "total_count_is_exact": True, "next_cursor": None}
    for made, said in (
        (tables.attempts(PAGE | empty | {"attempts": []}), "no attempts"),
        (tables.dead_letters(empty | {"dead_letters": []}), "no dead letters"),
        (tables.endpoints([]), "no endpoints"),
        (
            tables.keys({"keys": []}),
            "no keys yet (create one: oms-webhooks keys create); keys in OMS_WEBHOOKS_API_KEYS are not listed",
        ),
    ):
        assert printed(made, 120).splitlines()[-1] == said
    one = printed(tables.attempts(PAGE | {"total_count": 1, "pages": 1, "next_cursor": None}), 300)
    assert ", 1 attempt; times are in " in one


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "ascii"])
def test_json_is_valid_in_every_encoding(encoding: str) -> None:
    """In a locale without UTF-8, unencodable characters became \\xfc or \\U0001f600, which is not JSON."""
    data = {"name": "Gr\u00fcn \U0001f600", "receiver said": "\x9b31m \u202e \x7f \ufeff \n \\u009b"}
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    Output(file=file).print_data(data)
    file.write(json_text(data, encoding, indent=None))
    file.seek(0)
    printed, line = file.read().rsplit("\n", 1)
    assert json.loads(printed) == json.loads(line) == data
    assert not set("\x9b\u202e\x7f\ufeff") & set(printed + line), "a terminal would obey them"
    assert ("\u00fc" in printed) is (encoding == "utf-8")
