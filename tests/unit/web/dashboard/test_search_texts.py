"""Chips, links, highlights and indentation on the pages of the search."""

from __future__ import annotations

import json
from datetime import datetime
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.search import parse_query
from pipeline.web.dashboard.filter_chips import at_this_time, has_blanks, read_filters
from pipeline.web.dashboard.highlight import HighlightedText, excerpt, marked, needles
from pipeline.web.dashboard.json_format import pretty

Pairs = list[tuple[str, str]]


def pairs(query: str) -> Pairs:
    return parse_qsl(query, keep_blank_values=True)


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("q[order_number_eq]=R1&q[state_eq]=failed", []),
        ("q[attempt_gt]=2", ["attempt is more than 2"]),
        ("q[shipment_number_in][]=H1&q[shipment_number_in][]=H2", ["shipment number is one of H1, H2"]),
        ("q[order_number_or_event_id_cont]=X", ["order number or event id contains X"]),
        ("q[request_body_cont_all][]=a&q[request_body_cont_all][]=b", ["request body contains all of a, b"]),
        ("q[error_present]=1", ["error has a value: 1"]),
        ("q[m]=or", ["any filter matches"]),
        ("q[m]=and", ["filters combined with and"]),
        ("q[s]=attempt desc", ["sorted by attempt desc"]),
        ("q[s]=duration_ms desc", []),
        ("q[colour_eq]=red", ["colour_eq: red"]),
        ("q=nonsense", ["q = nonsense"]),
        (
            "q[g][0][state_eq]=failed&q[g][0][m]=or&q[g][1][attempt_gt]=2",
            ["[g][0][state_eq] = failed; [g][0][m] = or", "[g][1][attempt_gt] = 2"],
        ),
    ],
)
def test_chips_show_what_the_form_cannot(query: str, labels: list[str]) -> None:
    filters = read_filters(pairs(query))
    assert [chip.label for chip in filters.chips] == labels


KEYS = st.sampled_from(
    [
        "q[order_number_eq]",
        "q[state_eq]",
        "q[attempt_gt]",
        "q[sku_in][]",
        "q[m]",
        "q[s]",
        "q[g][0][m]",
        "q[g][0][state_eq]",
        "q[g][0][c][0][p]",
        "page",
        "x",
    ]
)


@given(st.lists(st.tuples(KEYS, st.text(max_size=5)), max_size=12))
def test_a_search_and_its_link_are_equivalent(given_pairs: Pairs) -> None:
    filters = read_filters(given_pairs)
    again = read_filters(parse_qsl(filters.query()))
    assert again.pairs == filters.pairs
    # What the form sends (its visible and its hidden fields) is the same search.
    assert (
        parse_query(filters.pairs).conditions == parse_query([pair for pair in given_pairs if pair[0].startswith("q")]).conditions
    )
    for chip in filters.chips:
        left = parse_qsl(chip.without)
        assert not [pair for pair in left if pair in chip.pairs]
        assert len(left) == len(filters.pairs) - len([pair for pair in filters.pairs if pair in chip.pairs])


def test_a_link_changes_one_filter_and_returns_to_the_first_page() -> None:
    filters = read_filters(pairs("q[order_number_eq]=R1&q[attempt_gt]=2&after=x&per_page=5&utm=1"))
    assert parse_qsl(filters.link(order="", state="failed")) == [
        ("q[attempt_gt]", "2"),
        ("per_page", "5"),
        ("q[state_eq]", "failed"),
    ]
    assert ("after", "y") in parse_qsl(filters.query(after="y"))
    assert filters.hidden == [("per_page", "5"), ("q[attempt_gt]", "2")]
    assert not filters.is_empty
    assert read_filters(pairs("q[s]=created_at asc&per_page=5")).is_empty
    assert has_blanks(pairs("q[state_eq]=%20"))
    assert not has_blanks(pairs("q[state_eq]=failed&page="))


def test_the_texts_that_a_search_looks_for() -> None:
    query = parse_query(
        pairs("q[request_body_cont_any][]=a&q[request_body_cont_any][]=b&q[request_body_not_cont]=c&q[error_cont]=d")
    )
    assert needles(query) == ("a", "b")
    assert needles(query, "error") == ("d",)


@given(st.text(max_size=80), st.lists(st.text(max_size=4), max_size=3))
def test_highlighting_does_not_change_the_text(text: str, wanted: list[str]) -> None:
    pieces = marked(text, wanted)
    assert "".join(piece.text for piece in pieces) == text
    for piece in pieces:
        assert not piece.is_match or piece.text.casefold() in {one.casefold() for one in wanted} or len(piece.text) > 0


def test_highlights_and_excerpts() -> None:
    assert marked("Ada ADA ada", ["ada"]) == (
        HighlightedText("Ada", True),
        HighlightedText(" "),
        HighlightedText("ADA", True),
        HighlightedText(" "),
        HighlightedText("ada", True),
    )
    assert marked("a.c abc", ["a.c"]) == (HighlightedText("a.c", True), HighlightedText(" abc"))
    assert marked("GRÜSSE", ["grüsse"])[0].is_match
    assert excerpt("x" * 100 + "Ada" + "y" * 100, ["ada"]) == (
        HighlightedText("…" + "x" * 60),
        HighlightedText("Ada", True),
        HighlightedText("y" * 60 + "…"),
    )
    assert excerpt("nothing", ["ada"]) == ()
    assert sum(piece.is_match for piece in marked("a" * 500, ["a"])) == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
def test_indentation_changes_only_whitespace(value: object, separators: tuple[str, str]) -> None:
    assert pretty(json.dumps(value, separators=separators)) == json.dumps(value, indent=2)


def test_numbers_are_shown_as_they_were_sent() -> None:
    assert pretty('{"a":20.10,"b":1e400,"a":[],"c":{} }') == '{\n  "a": 20.10,\n  "b": 1e400,\n  "a": [],\n  "c": {}\n}'
    assert pretty("no JSON {") == "no JSON {"
    assert pretty("[" * 100_000) == "[" * 100_000


@pytest.mark.parametrize(
    ("text", "wanted", "marks"),
    [
        (r'{"name":"M\u00fcller"}', "Müller", [r"M\u00fcller"]),
        (r'{"name":"M\u00fcller","b":"Müller"}', r"M\u00FCller", [r"M\u00fcller", "Müller"]),
        (r'{"name":"M\u00fcller"}', "u00fc", ["u00fc"]),
        (r'{"shop":"Marks \u0026 Spencer"}', "marks & sp", [r"Marks \u0026 Sp"]),
        (r'{"note":"say \"hi\""}', 'say "hi"', [r"say \"hi\""]),
        ("Straße", "STRASSE", ["Straße"]),
    ],
)
def test_matches_are_highlighted_however_they_are_escaped(text: str, wanted: str, marks: list[str]) -> None:
    pieces = marked(text, [wanted])
    assert [piece.text for piece in pieces if piece.is_match] == marks
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.text for piece in excerpt(text, [wanted]) if piece.is_match] == marks[:1]


def test_only_relative_times_are_made_absolute() -> None:
    now = datetime(2026, 3, 2, 0, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    fixed = at_this_time(
        pairs(
            "q[created_at_gteq]=yesterday&q[created_at_lt]=-30m&q[g][0][created_at_gt_any][]=today&q[error_eq]=today"
            "&q[created_at_eq]=nonsense&q[s]=created_at desc&q[m]=or&per_page=5"
        ),
        now,
    )
    assert fixed == pairs(
        "q[created_at_gteq]=2026-03-01&q[created_at_lt]=2026-03-01T23:00:00Z&q[g][0][created_at_gt_any][]=2026-03-02"
        "&q[error_eq]=today&q[created_at_eq]=nonsense&q[s]=created_at desc&q[m]=or&per_page=5"
    )
