"""The page of event types, and event types of the API on other pages."""

from __future__ import annotations

from typing import Any

from schemas.codec import to_json
from schemas.event import EventType
from schemas.event_type_record import EventTypeRecord
from tests.unit.web.api.test_event_types_api import ENTRY, PATH, given
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.endpoint_requests import request
from tests.unit.web.service import NOW, Service

PAGE = "/webhooks/event-types"


async def test_an_added_type_is_marked_counted_and_selectable(service: Service, admin: Visitor) -> None:
    assert "API" not in _row((await admin.go(PAGE)).html, "order_completed")
    await request(service, "POST", PATH, **given(description="<b>Money\u202e"))
    await service.create(events=["refund_issued"])
    seen = await admin.go(PAGE)
    row = _row(seen.html, "refund_issued")
    assert '<span class="tag">API</span>' in row
    assert 'data-label="Endpoints">1<' in row
    assert "&lt;b&gt;Money\\u202e" in row
    assert "q%5Bevent_name_eq%5D=refund_issued" in row
    form = await admin.go("/webhooks/endpoints/new")
    assert "Refund issued API" in form.text
    assert PAGE in form.html
    assert PAGE in (await admin.go("/webhooks/endpoints")).html
    assert (await admin.go("/webhooks/guide")).html.count('id="refund_issued"') == 1
    assert '<option value="refund_issued"' in (await admin.go("/webhooks/attempts")).html


async def test_removed_and_unusable_types_are_shown(service: Service, admin: Visitor) -> None:
    await request(service, "POST", PATH, **given())
    await request(service, "DELETE", f"{PATH}/refund_issued")
    await _write(service, "<i>parcel", ENTRY | {"name": "<i>parcel"})
    seen = await admin.go(PAGE)
    assert "The latest version of these event types cannot be used: <i>parcel: name: Write" in seen.text
    assert "refund_issued , now" in seen.text.replace("just now", "now")
    assert "Refund issued (removed)" in (await admin.go("/webhooks/attempts")).text


async def test_all_events_include_added_types(service: Service, admin: Visitor) -> None:
    await service.create(events=list(EventType))
    assert "All types" in (await admin.go("/webhooks/endpoints")).text
    await request(service, "POST", PATH, **given())
    assert "All types" not in (await admin.go("/webhooks/endpoints")).text


def _row(html: str, name: str) -> str:
    (found,) = [row for row in html.split("<tr>") if f'<code class="small plain">{name}</code>' in row]
    return found


async def _write(service: Service, name: str, entry: dict[str, Any]) -> None:
    record = EventTypeRecord(name=name, entry=entry, created_at=NOW, updated_at=NOW)
    position = await service.kafka.send("webhooks.event-types", key=name.encode(), value=to_json(record))
    await service.kafka._tables["webhooks.event-types"].wait_for(position.offset)
