"""The guide for integrators: complete, built from one source, and without broken links."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline.web.guide import guide
from schemas.event import EventType
from schemas.objects import Address, LineItem, Order, Payment, Shipment, StockItem, Variant
from tests.unit.web.service import Service

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "receiving.md").read_text(encoding="utf-8")
OBJECTS: dict[str, type[BaseModel]] = {
    "Order": Order,
    "Shipment": Shipment,
    "Stock item": StockItem,
    "Line item": LineItem,
    "Variant": Variant,
    "Address": Address,
    "Payment": Payment,
}


class Links(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self.targets.append(values["href"] or "")
        if tag in ("script", "link", "img", "iframe", "form") or "style" in values:
            self.loaded.append(tag)
        if one := values.get("id"):
            self.ids.append(one)


def section(title: str) -> str:
    """The text from a heading to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found.group(1)


def test_the_guide_has_no_broken_links() -> None:
    links = Links()
    links.feed(guide().text)
    assert len(links.ids) == len(set(links.ids))
    outside = {"/api/webhook/reference", "/webhooks", "/webhooks/guide/filters", "https://www.standardwebhooks.com"}
    outside.add("/webhooks/guide/authentication")
    assert [target for target in links.targets if target.removeprefix("#") not in links.ids and target not in outside] == []
    assert links.loaded == []


@pytest.mark.parametrize("event_type", EventType)
def test_every_event_has_a_description_a_sample_and_a_schema(event_type: EventType) -> None:
    assert f"[`{event_type}`](../schemas/samples/{event_type}.json)" in section("The built-in events")
    shown = guide().text.partition(f'<div id="{event_type}">')[2].partition("</div>")[0]
    assert f"&#34;event_name&#34;: &#34;{event_type}&#34;" in shown
    assert f"&#34;const&#34;: &#34;{event_type}&#34;" in shown


@pytest.mark.parametrize("name", OBJECTS)
def test_every_field_of_the_payload_objects_is_listed(name: str) -> None:
    listed = set(re.findall(r"`([a-z_0-9]+)`", section(name)))
    # The formatted amounts of an order are described as a group.
    listed |= {f"display_{one}" for one in listed if name == "Order"}
    assert set(OBJECTS[name].model_fields) - listed == set()


@pytest.mark.parametrize("language", ["Python", "Node", "Go", "Ruby", "PHP"])
def test_the_page_shows_every_example_receiver_as_its_file_is(language: str) -> None:
    shown = guide().text.partition(f'<div id="receiver-{language.lower()}">')[2].partition("</div>")[0]
    files = [
        path
        for path in (ROOT / "docs/examples/receivers" / language.lower()).iterdir()
        if path.suffix in (".py", ".js", ".go", ".ru")
    ]
    for path in files:
        first_code = next(
            line for line in path.read_text().splitlines() if "webhook" in line and '"' not in line and "<" not in line
        )
        assert first_code in shown
    assert shown.count("<pre") >= 2


async def test_the_guide_is_public_and_loads_nothing(service: Service) -> None:
    async with service.anonymous.get("/webhooks/guide") as response:
        text = await response.text()
        assert (response.status, response.content_type) == (200, "text/html")
        policy = response.headers["Content-Security-Policy"]
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    # There is nothing to post: whoever does is sent to the login, as for the dashboard.
    async with service.anonymous.post("/webhooks/guide", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"].partition("?")[0]) == (303, "/webhooks/login")


async def test_the_guide_links_to_the_guide_to_filters(service: Service) -> None:
    async with service.anonymous.get("/webhooks/guide") as response:
        assert 'href="/webhooks/guide/filters"' in await response.text()
    async with service.anonymous.get("/webhooks/guide/authentication") as response:
        assert "Mutual TLS" in await response.text()
    async with service.anonymous.get("/webhooks/guide/filters") as response:
        text = await response.text()
        assert (response.status, "decimal(data.total)" in text, 'id="limits"' in text) == (200, True, True)
