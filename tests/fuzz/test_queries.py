"""Hostile searches: any query string becomes SQL with bound parameters, or a report of what was ignored.

The many examples of a test take a second or more.
"""

from __future__ import annotations

from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.properties import check_pairs, check_query
from tests.fuzz.strategies import FUZZ, PAIRS


@FUZZ
@given(PAIRS)
def test_pairs_become_a_search(pairs: list[tuple[str, str]]) -> None:
    check_pairs(pairs)


@FUZZ
@given(st.text(max_size=60) | PAIRS.map(lambda pairs: urlencode(pairs, errors="surrogatepass")))
def test_a_query_string_becomes_a_search(text: str) -> None:
    check_query(text)
