"""What endpoints are called, and how long texts are shortened."""

from __future__ import annotations

import pytest

from pipeline.web.dashboard.endpoint_names import end_shortened, endpoint_name, middle, without_scheme


def test_the_description_is_the_name() -> None:
    assert (
        endpoint_name(7, " \n The ERP, which keeps the books \nAsk Ada", "https://erp.example.com/h").name
        == "The ERP, which keeps the books"
    )
    assert endpoint_name(7, "x" * 1000, "https://erp.example.com/h").name == "x" * 59 + "…"


def test_without_a_description_it_is_the_url_without_its_scheme() -> None:
    assert endpoint_name(7, "", "https://erp.example.com/hooks").name == "erp.example.com/hooks"
    assert [endpoint_name(7, text, "https://x").is_url for text in ("", " \n", "ERP")] == [True, True, False]
    assert len(endpoint_name(7, " ", "https://erp.example.com/" + "a" * 2000).name) == 48


@pytest.mark.parametrize("length", range(9, 40))
def test_the_middle_goes_first(length: int) -> None:
    text = "https://example.com/hooks/of/7"
    short = middle(text, length)
    assert len(short) == min(length, len(text))
    assert (short[:4], short[-3:]) == ("http", "f/7")


def test_short_texts_stay() -> None:
    assert (end_shortened("ERP"), middle("a"), without_scheme("no scheme")) == ("ERP", "a", "no scheme")
