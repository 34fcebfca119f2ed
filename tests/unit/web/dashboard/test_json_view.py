"""JSON in pieces: colours, folds and highlighted matches."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.dashboard.json_format import pretty
from pipeline.web.dashboard.json_view import JsonPiece, json_pieces

ORDER = '{"number":"R1","items":[1,2,{"sku":"a: {[","price":-1.5e3,"gift":true}],"note":null,"none":{},"empty":[]}'


def written(pieces: tuple[JsonPiece, ...]) -> str:
    """The pieces as one text, with symbols for their kinds."""
    folds = {"open": "«", "inside": "|", "close": "»"}
    return "".join(folds.get(one.fold) or (f"*{one.text}*" if one.is_match else one.text) for one in pieces)


def test_colours() -> None:
    kinds = {(one.text, one.kind) for one in json_pieces(ORDER) if one.kind}
    assert {
        ('"number"', "key"),
        ('"R1"', "str"),
        ('"a: {["', "str"),
        ("-1.5e3", "num"),
        ("true", "word"),
        ("null", "word"),
    } <= kinds


def test_long_values_fold_and_keep_their_closing_bracket() -> None:
    assert (
        written(json_pieces('{"a":[1,2,3],"b":[1]}')) == '«{|\n  «"a": [|\n    1,\n    2,\n    3\n  »],\n  "b": [\n    1\n  ]\n»}'
    )


def test_matches_are_highlighted_across_pieces() -> None:
    assert '"*sku"**: **"a*: {["' in written(json_pieces(ORDER, ['sku": "a']))


def test_text_that_is_not_json_is_unchanged() -> None:
    assert json_pieces("<html>no</html>", ["no"]) == (JsonPiece("<html>"), JsonPiece("no", is_match=True), JsonPiece("</html>"))
    assert json_pieces("") == ()


def test_a_very_long_text_has_no_colours() -> None:
    text = json.dumps(["x" * 1000] * 300)
    assert {one.kind for one in json_pieces(text)} == {""}


def test_folds_are_bounded() -> None:
    text = json.dumps([[1, 2, 3, 4]] * 500)
    assert sum(one.fold == "open" for one in json_pieces(text)) == 100
    deep = "[" * 50 + "1,2,3,4" + "]" * 50
    assert sum(one.fold == "open" for one in json_pieces(deep)) == 5


values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values, st.lists(st.text(min_size=1, max_size=3), max_size=2))
def test_the_pieces_add_up_to_the_text(value: object, wanted: list[str]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    pieces = json_pieces(text, wanted)
    assert "".join(one.text for one in pieces) == pretty(text)
    depth = 0
    for one in pieces:
        depth += {"open": 1, "close": -1}.get(one.fold, 0)
        assert depth >= 0
    assert depth == 0
