"""A number with its noun."""

from __future__ import annotations

import pytest

from pipeline.core.counted import counted


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 endpoints"), (1, "1 endpoint"), (2, "2 endpoints"), (1_001, "1,001 endpoints")]
)
def test_one_is_singular(number: int, words: str) -> None:
    assert counted(number, "endpoint") == words


def test_an_irregular_plural() -> None:
    assert [counted(number, "delivery", "deliveries") for number in (1, 2)] == ["1 delivery", "2 deliveries"]
