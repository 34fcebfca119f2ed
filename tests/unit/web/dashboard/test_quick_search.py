"""Where the search box leads."""

from __future__ import annotations

from urllib.parse import unquote, urlencode

import pytest

from pipeline.store.errors import StoreUnavailableError
from schemas.api_key import Access
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import Service

BODIES = "/webhooks/attempts?q[request_body_cont]="


@pytest.fixture
async def shop(service: Service) -> Service:
    """Two endpoints and some recorded numbers."""
    await service.create("http://127.0.0.1/erp?key=1", description="ERP")
    await service.create("http://127.0.0.1/mails", description="Mails to customers")
    service.attempts.known = {
        ("sku", "SKU-9"),
        ("subscription_id", "12345"),
        ("stock_item_id", "77"),
        ("id", "88"),
        ("order_number", "R742992696"),
        ("shipment_number", "742992"),
    }
    return service


async def goes_to(visitor: Visitor, text: str) -> str:
    seen = await visitor.go("/webhooks/go?" + urlencode({"text": text}), follow=False)
    assert seen.status == 303, seen.text
    return unquote(seen.headers["Location"].replace("+", " "))


@pytest.mark.parametrize(
    ("text", "to"),
    [
        (" r742992696 ", "/webhooks/orders/R742992696"),
        ("742992696", "/webhooks/orders/R742992696"),
        ("H12345678901", "/webhooks/shipments/H12345678901"),
        ("742992", "/webhooks/shipments/742992"),
        ("12345", "/webhooks/subscriptions/12345"),
        ("77", "/webhooks/stock-items/77"),
        ("88", "/webhooks/attempts/88"),
        ("evt_1", "/webhooks/attempts?q[event_id_eq]=evt_1"),
        ("sku-9", "/webhooks/attempts?q[sku_eq]=SKU-9"),
        ("erp", "/webhooks/endpoints/1"),
        ("3", "/webhooks/endpoints/3"),
        ("http://127.0.0.1/erp?key=1", "/webhooks/endpoints/1"),
        ("customers", "/webhooks/endpoints/3"),
        ("https://elsewhere.example.com/x", "/webhooks/attempts?q[target_url_cont]=https://elsewhere.example.com/x"),
        ("https://oms.example.com/webhooks/orders/R1?a=b", "/webhooks/orders/R1?a=b"),
        ("https://oms.example.com/webhooks/somewhere", "/webhooks/attempts?q[target_url_cont]=https://oms.example.com/webhooks/somewhere"),
        ("/webhooks/dead-letters", "/webhooks/dead-letters"),
        ("grace.hopper@example.com", f"{BODIES}grace.hopper@example.com"),
        ("Grace Hopper", f"{BODIES}Grace Hopper"),
        ("Grace Hopper <grace.hopper@example.com>", f"{BODIES}grace.hopper@example.com"),
        ("Order R742992696 is late", "/webhooks/orders/R742992696"),
        ("https://oms.example.com/admin/orders/R742992696/edit", "/webhooks/orders/R742992696"),
        ("http://127.0.0.1/admin/orders/R742992696/edit", "/webhooks/orders/R742992696"),
        ("R742992696 or R742992697", f"{BODIES}R742992696 or R742992697"),
        ("https://evil.example.com//x", "/webhooks/attempts?q[target_url_cont]=https://evil.example.com//x"),
        ("", "/webhooks/attempts"),
        ("/webhooks/go?text=x", f"{BODIES}/webhooks/go?text=x"),
    ],
)  # fmt: skip
async def test_where_a_text_leads(shop: Service, admin: Visitor, text: str, to: str) -> None:
    assert await goes_to(admin, text) == to


async def test_a_number_with_an_invisible_character_is_found(shop: Service, admin: Visitor) -> None:
    """The character is kept if there is such a number, and dropped otherwise, because it usually comes from copying out of a
    program.
    """
    shop.attempts.known |= {("order_number", "A-1\u202eB"), ("order_number", "R742\u202e992697"), ("sku", "A\tB")}
    assert await goes_to(admin, "A-1\u202eB ") == "/webhooks/orders/A-1\u202eB"
    assert await goes_to(admin, "R742\u202e992697") == "/webhooks/orders/R742\u202e992697"
    assert await goes_to(admin, "\u202aR742992696\u202c") == "/webhooks/orders/R742992696"
    assert await goes_to(admin, "A\tB") == "/webhooks/attempts?q[sku_eq]=A\tB"


async def test_a_number_that_cannot_end_a_url_is_searched_for(shop: Service, admin: Visitor) -> None:
    """Browsers turn ``/webhooks/orders/..`` into ``/webhooks``."""
    shop.attempts.known = {("order_number", "."), ("subscription_id", "..")}
    assert await goes_to(admin, ".") == "/webhooks/attempts?q[order_number_eq]=."
    assert await goes_to(admin, "..") == "/webhooks/attempts?q[subscription_id_eq]=.."


async def test_a_recorded_number_is_found_as_typed(shop: Service, admin: Visitor) -> None:
    shop.attempts.known |= {("order_number", "R-123456"), ("order_number", "R123456")}
    assert await goes_to(admin, '"R-123456"') == "/webhooks/orders/R-123456"
    assert await goes_to(admin, "r-123456") == "/webhooks/orders/R123456"
    shop.attempts.error = StoreUnavailableError("ClickHouse is away.")
    assert await goes_to(admin, "R-123456") == "/webhooks/orders/R123456"


async def test_an_ambiguous_text_leads_to_a_choice(shop: Service, admin: Visitor) -> None:
    shop.attempts.known |= {("id", "1"), ("stock_item_id", "1")}
    seen = await admin.go("/webhooks/go?text=1")
    for part in ("Which one?", "ERP", "Attempt 1", "Stock item 1", "Search in bodies"):
        assert part in seen.text, part
    for href in ("/webhooks/endpoints/1", "/webhooks/attempts/1", "/webhooks/stock-items/1"):
        assert f'href="{href}"' in seen.html


async def test_an_endpoint_found_by_part_of_its_name_offers_a_search_instead(shop: Service, admin: Visitor) -> None:
    seen = await admin.go("/webhooks/go?text=custom")
    assert seen.path == "/webhooks/endpoints/3"
    assert "“custom” matches this endpoint. Search in bodies instead" in seen.text


async def test_an_order_found_in_a_text_offers_a_search_instead(shop: Service, admin: Visitor) -> None:
    seen = await admin.go("/webhooks/go?" + urlencode({"text": "order R742992696?"}))
    assert seen.path == "/webhooks/orders/R742992696"
    assert "“order R742992696?” mentions order R742992696. Search in bodies instead" in seen.text


async def test_an_order_in_a_long_text_is_opened_with_short_response_headers(shop: Service, admin: Visitor) -> None:
    text = "Заказ R742992696 не пришёл. " * 70
    answered = await admin.go("/webhooks/go?" + urlencode({"text": text}), follow=False)
    assert answered.headers["Location"] == "/webhooks/orders/R742992696"
    assert sum(len(name) + len(value) for name, value in answered.headers.items()) < 4096

    assert "mentions order R742992696." in (await admin.go("/webhooks/orders/R742992696")).text


async def test_a_viewer_is_led_to_the_order_in_a_text(shop: Service, visitor: Visitor) -> None:
    await visitor.log_in(await shop.key(Access.VIEWER))
    seen = await visitor.go("/webhooks/go?" + urlencode({"text": "order R742992696?"}))
    assert seen.path == "/webhooks/orders/R742992696"
    assert "Search the bodies" not in seen.text


async def test_a_viewer_is_not_led_to_a_body_search(shop: Service, visitor: Visitor) -> None:
    await visitor.log_in(await shop.key(Access.VIEWER))
    assert await goes_to(visitor, "r742992696") == "/webhooks/orders/R742992696"
    for text in ("grace.hopper@example.com", "Grace Hopper"):
        seen = await visitor.go("/webhooks/go?" + urlencode({"text": text}))
        for part in ("Nothing found", f"matches “{text}”", "a key with the operator role"):
            assert part in seen.text, part
        assert "request_body_cont" not in seen.html
    assert not shop.kafka.audits


async def test_without_the_store_it_says_what_was_not_looked_up(shop: Service, admin: Visitor) -> None:
    shop.attempts.error = StoreUnavailableError("ClickHouse is away.")
    assert await goes_to(admin, "erp") == "/webhooks/endpoints/1"
    assert await goes_to(admin, "R742992696") == "/webhooks/orders/R742992696"
    for text, part in (("SKU-9", "“SKU-9” may be on record."), ("custom", "“custom” has one match so far.")):
        seen = await admin.go("/webhooks/go?" + urlencode({"text": text}))
        assert ("The search is incomplete: " in seen.text, part in seen.text) == (True, True), text
        assert f'href="?text={text}"' in seen.html
    assert await goes_to(admin, "grace.hopper@example.com") == f"{BODIES}grace.hopper@example.com"


async def test_the_typed_text_is_escaped(shop: Service, admin: Visitor) -> None:
    shop.attempts.known |= {("sku", "a<b>1</b>c"), ("subscription_id", "a<b>1</b>c")}
    seen = await admin.go("/webhooks/go?" + urlencode({"text": "a<b>1</b>c"}))
    assert "SKU a<b>1</b>c" in seen.text
    assert "<b>1" not in seen.html


async def test_the_box_is_on_every_page(shop: Service, admin: Visitor) -> None:
    for path in ("/webhooks", "/webhooks/endpoints", "/webhooks/attempts", "/webhooks/keys", "/webhooks/nowhere"):
        form = (await admin.go(path)).form("/webhooks/go")
        assert (form.method, form.fields) == ("get", [("text", "")])
