"""How the search box interprets pasted text."""

from __future__ import annotations

import pytest

from pipeline.web.quick_search import NamedEndpoint, Pasted, Reference, ReferenceKind, canonical_number, matching, recognize

ORDER = Reference(ReferenceKind.ORDER, "R742992696")
SHIPMENT = Reference(ReferenceKind.SHIPMENT, "H12345678901")


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("R742992696", ORDER),
        ("r742992696", ORDER),
        ("  \tR742992696\r\n", ORDER),
        ("#R742992696", ORDER),
        ("R 742 992 696", ORDER),
        ("R742-992-696", ORDER),
        ('"R742992696",', ORDER),
        ("(r742992696)", ORDER),
        ("R742992696\u200b", ORDER),
        ("h12345678901", SHIPMENT),
        ("evt_01HZX", Reference(ReferenceKind.EVENT, "evt_01HZX")),
        ("R12", None),
        ("R742992696 is late", None),
        ("42", None),
    ],
)
def test_unambiguous_numbers_are_recognized(text: str, certain: Reference | None) -> None:
    assert recognize(text).certain == certain


def test_urls_and_email_addresses_are_recognized() -> None:
    page = recognize(" https://oms.example.com/webhooks/orders/R1?x=1 ")
    assert (page.path, page.host, page.url) == (
        "/webhooks/orders/R1?x=1",
        "oms.example.com",
        "https://oms.example.com/webhooks/orders/R1?x=1",
    )
    assert recognize("/webhooks/attempts/7").path == "/webhooks/attempts/7"
    assert recognize("//oms.example.com/webhooks").url == "https://oms.example.com/webhooks"
    assert recognize("https://[half/webhooks") == Pasted("https://[half/webhooks")
    for text in ("grace.hopper@example.com", "<grace.hopper@example.com>", "mailto:grace.hopper@example.com"):
        assert recognize(text) == Pasted("grace.hopper@example.com", is_email=True)
    assert recognize("Grace Hopper <grace.hopper@example.com>") == Pasted("grace.hopper@example.com", is_email=True)
    assert not recognize("write to grace.hopper@example.com").is_email


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [
        ("Order: r742992696", ORDER),
        ("R742992696.", ORDER),
        ("R742992696\tpaid\t68.90", ORDER),
        ("where is H12345678901?", SHIPMENT),
        ("R742992696 and its H12345678901", ORDER),
        ("https://oms.example.com/admin/orders/R742992696/edit", ORDER),
        ("/admin/orders/R742992696", ORDER),
        ("R742992696 or R742992697", None),
        ("H12345678901, H12345678902", None),
        ("xR742992696", None),
        ("Order R12", None),
        ("https://R742992696.example.com/", None),
    ],
)
def test_an_order_or_shipment_mentioned_in_a_text_is_found(text: str, mentioned: Reference | None) -> None:
    found = recognize(text)
    assert (found.certain, found.mentioned) == (None, mentioned)


@pytest.mark.parametrize(
    ("text", "guesses"),
    [
        ("https://oms.example.com/orders/nord-330722995?tab=2", {"nord-330722995", "NORD-330722995"}),
        ("https://oms.example.com/orders/NORD-330722995/edit", {"NORD-330722995"}),
        ("https://oms.example.com/orders/A%2F1/", {"A/1"}),
        ("https://oms.example.com/NORD-330722995", set()),
        ("https://oms.example.com/orders/new", set()),
    ],
)
def test_a_url_may_contain_an_order_number_of_any_form(text: str, guesses: set[str]) -> None:
    assert {one.value for one in recognize(text).guesses if one.kind is ReferenceKind.ORDER} == guesses


def test_what_an_ambiguous_text_may_refer_to() -> None:
    assert set(recognize("742992696").guesses) >= {
        Reference(ReferenceKind.ATTEMPT, "742992696"),
        Reference(ReferenceKind.STOCK_ITEM, "742992696"),
        Reference(ReferenceKind.SUBSCRIPTION, "742992696"),
        ORDER,
    }
    assert set(recognize("sku-1").guesses) >= {Reference(ReferenceKind.SKU, "sku-1"), Reference(ReferenceKind.SKU, "SKU-1")}
    assert Reference(ReferenceKind.ATTEMPT, "9" * 19) not in recognize("9" * 19).guesses
    assert recognize("").guesses == ()
    assert recognize("x" * 300).guesses == ()
    assert len(recognize("y" * 5_000).text) == 2_000
    assert len(recognize("7").guesses) <= 12


def test_order_numbers_are_normalized() -> None:
    assert canonical_number(" r742992696 ") == "R742992696"
    assert canonical_number("Ab") == "Ab"


ENDPOINTS = (
    NamedEndpoint(7, "ERP", "https://erp.example.com/hooks?key=1", "ERP\nkeeps the books"),
    NamedEndpoint(8, "Mails to customers", "https://mail.example.com/in", "Mails to customers"),
    NamedEndpoint(9, "mail.example.com", "https://mail.example.com/out"),
)


@pytest.mark.parametrize(
    ("text", "ids", "is_exact"),
    [
        ("erp", [7], True),
        (" ERP ", [7], True),
        ("7", [7], True),
        ("https://mail.example.com/in", [8], True),
        ("https://mail.example.com/in/?a=b#c", [8], True),
        ("https://erp.example.com/hooks?key=1", [7], True),
        ("https://mail.example.com/other", [8, 9], False),
        ("https://elsewhere.example.com/", [], False),
        ("mail.example.com", [9, 8], True),
        ("custom", [8], False),
        ("tomers", [], False),
        ("er", [], False),
        ("a.*", [], False),
    ],
)
def test_endpoints_are_found_by_name_id_and_url(text: str, ids: list[int], is_exact: bool) -> None:
    found, exact = matching(ENDPOINTS, recognize(text))
    assert (sorted(one.id for one in found), exact) == (sorted(ids), is_exact)
