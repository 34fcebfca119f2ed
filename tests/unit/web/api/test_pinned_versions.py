"""Pinning the version of an event type for an endpoint, through the API."""

from __future__ import annotations

from tests.unit.schemas.versioned_types import VERSIONED
from tests.unit.web.endpoint_requests import PATH, request, wrapped
from tests.unit.web.service import Service

EVENTS = ["refund_issued", "order_completed"]


async def test_a_pin_is_set_shown_kept_and_removed_with_its_event(service: Service) -> None:
    service.events.use(VERSIONED)
    status, refused = await request(
        service,
        "POST",
        **wrapped(target_url="http://127.0.0.1/", events=["order_completed"], event_type_versions={"refund_issued": 1}),
    )
    assert status == 422
    assert "but events does not" in refused["errors"]["event_type_versions"][0]

    identifier = await service.create(events=EVENTS, event_type_versions={"refund_issued": 1})
    own = f"{PATH}/{identifier}"
    assert (await request(service, "GET", own))[1]["event_type_versions"] == {"refund_issued": 1}
    assert (await request(service, "PATCH", own, **wrapped(description="x")))[1]["event_type_versions"] == {"refund_issued": 1}
    status, refused = await request(service, "PATCH", own, **wrapped(event_type_versions={"refund_issued": 3}))
    assert (status, "has versions 1, 2" in refused["errors"]["event_type_versions"][0]) == (422, True)

    test = await request(service, "POST", f"{own}/test", json={"test": {"event_name": "refund_issued"}})
    assert '"total": "4.99"' in test[1]["attempt"]["request_body"], "the sample of the pinned version"

    _, changed = await request(service, "PATCH", own, **wrapped(events=["order_completed"]))
    assert changed["event_type_versions"] == {}
    _, changed = await request(service, "PATCH", own, **wrapped(events=EVENTS, event_type_versions={"refund_issued": 2}))
    assert changed["event_type_versions"] == {"refund_issued": 2}
    assert (await request(service, "PATCH", own, **wrapped(event_type_versions=None)))[1]["event_type_versions"] == {}
