"""An endpoint's health in the API, reactivating a disabled endpoint, and the rate limit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from schemas.health import HealthFact, HealthRecord
from tests.unit.sample_events import NOW, disabled
from tests.unit.web.endpoint_requests import INVALID, PATH, request, wrapped
from tests.unit.web.service import Service


async def shown(service: Service, identifier: int) -> dict[str, Any]:
    status, endpoint = await request(service, "GET", f"{PATH}/{identifier}")
    assert status == 200
    assert isinstance(endpoint, dict)
    return endpoint


async def test_a_disabled_endpoint_shows_when_and_why(service: Service) -> None:
    identifier = await service.create()

    service.learn(disabled(identifier))

    endpoint = await shown(service, identifier)
    assert (endpoint["active"], endpoint["state"]) == (False, "disabled")
    assert endpoint["disabled_reason"] == "The endpoint answered 410 (Gone)."
    assert endpoint["disabled_at"] == "2026-03-02T15:04:00.512Z"


@pytest.mark.parametrize("fields", [{"active": True}, {"target_url": "http://127.0.0.1/moved"}], ids=["active", "target_url"])
async def test_activation_or_a_new_url_reactivates_a_disabled_endpoint(service: Service, fields: dict[str, Any]) -> None:
    identifier = await service.create()
    service.learn(disabled(identifier))

    status, endpoint = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(**fields))

    assert (status, endpoint["state"], endpoint["disabled_at"], endpoint["disabled_reason"]) == (200, "active", None, None)
    assert service.kafka.changes[-1].activated_version == 2
    # It may be disabled again later, for a new reason.
    service.learn(disabled(identifier, endpoint_version=2))
    assert (await shown(service, identifier))["state"] == "disabled"


@pytest.mark.parametrize(
    "fields",
    [{"description": "new"}, {"active": False}, {"target_url": "http://127.0.0.1/hooks"}],
    ids=["text", "paused", "same"],
)
async def test_other_changes_do_not_reactivate_a_disabled_endpoint(service: Service, fields: dict[str, Any]) -> None:
    identifier = await service.create()
    service.learn(disabled(identifier))

    _, endpoint = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(**fields))

    assert (endpoint["active"], endpoint["state"]) == (False, "paused" if "active" in fields else "disabled")
    assert service.kafka.changes[-1].activated_version == 1


async def test_sending_back_a_disabled_endpoint_does_not_pause_it(service: Service) -> None:
    """Otherwise it would stay paused when somebody corrects its URL."""
    identifier = await service.create()
    service.learn(disabled(identifier))
    read = await shown(service, identifier)
    assert (read["active"], read["state"]) == (False, "disabled")

    _, endpoint = await request(service, "PUT", f"{PATH}/{identifier}", **wrapped(**read | {"description": "new"}))
    assert (endpoint["state"], endpoint["description"]) == ("disabled", "new")
    assert service.kafka.changes[-1].active

    moved = read | {"target_url": "http://127.0.0.1/moved"}
    _, endpoint = await request(service, "PUT", f"{PATH}/{identifier}", **wrapped(**moved))
    assert endpoint["state"] == "active"

    _, endpoint = await request(service, "PUT", f"{PATH}/{identifier}", **wrapped(**endpoint | {"active": False}))
    assert endpoint["state"] == "paused", "it was active when it was read"


async def test_sending_back_an_active_endpoint_does_not_reset_its_failures(service: Service) -> None:
    identifier = await service.create()
    at: dict[str, Any] = {"endpoint_id": identifier, "endpoint_version": 1, "at": NOW}
    service.learn(
        HealthRecord(fact=HealthFact.FAILING, since=NOW, **at),
        HealthRecord(fact=HealthFact.CIRCUIT, circuit="open", until=NOW + timedelta(seconds=5), **at),
    )
    read = await shown(service, identifier)

    _, endpoint = await request(service, "PUT", f"{PATH}/{identifier}", **wrapped(**read | {"description": "new"}))

    assert (endpoint["state"], endpoint["description"]) == ("active", "new")
    assert (endpoint["failing_since"], endpoint["circuit"]) == ("2026-03-02T15:04:00.512Z", "open")
    assert endpoint["will_be_disabled_at"] == read["will_be_disabled_at"]
    assert service.kafka.changes[-1].activated_version == 1


async def test_a_new_target_url_does_not_resume_an_endpoint_paused_by_its_owner(service: Service) -> None:
    identifier = await service.create(active=False)

    _, endpoint = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(target_url="http://127.0.0.1/moved"))

    assert endpoint["state"] == "paused"


async def test_disabled_endpoints_are_listed_as_inactive(service: Service) -> None:
    one, two = await service.create("http://127.0.0.1/1"), await service.create("http://127.0.0.1/2")
    service.learn(disabled(two))

    for query, wanted in (("q[active_true]=1", [one]), ("q[active_false]=1", [two])):
        _, page = await request(service, "GET", f"{PATH}?{query}")
        assert [endpoint["id"] for endpoint in page["endpoints"]] == wanted


async def test_failures_and_the_circuit_are_shown(service: Service) -> None:
    identifier = await service.create()
    at: dict[str, Any] = {"endpoint_id": identifier, "endpoint_version": 1, "at": NOW}
    service.learn(
        HealthRecord(fact=HealthFact.FAILING, since=NOW, **at),
        HealthRecord(fact=HealthFact.CIRCUIT, circuit="open", until=NOW + timedelta(seconds=5), **at),
    )

    endpoint = await shown(service, identifier)
    assert (endpoint["state"], endpoint["failing_since"], endpoint["circuit"]) == ("active", "2026-03-02T15:04:00.512Z", "open")
    service.now[0] += timedelta(seconds=6)
    assert (await shown(service, identifier))["circuit"] == "half_open"
    service.learn(HealthRecord(fact=HealthFact.FAILING, **at), HealthRecord(fact=HealthFact.CIRCUIT, circuit="closed", **at))
    endpoint = await shown(service, identifier)
    assert (endpoint["failing_since"], endpoint["circuit"]) == (None, "closed")


async def test_a_rate_limit_is_set_shown_and_removed(service: Service) -> None:
    identifier = await service.create(max_per_second=25)
    assert (await shown(service, identifier))["max_per_second"] == 25

    _, endpoint = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(max_per_second=None))

    assert endpoint["max_per_second"] is None
    assert [change.max_per_second for change in service.kafka.changes] == [25, None]


@pytest.mark.parametrize("value", [0, -1, 1.5, 10_001, True, "10", [1]])
async def test_an_invalid_rate_limit_is_refused(service: Service, value: object) -> None:
    status, body = await request(
        service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["order_completed"], max_per_second=value)
    )

    sentence = "max_per_second must be a whole number from 1 to 10000, or null for no limit."
    assert (status, body) == (422, {"error": INVALID, "errors": {"max_per_second": [sentence]}})


async def test_nobody_can_subscribe_to_operational_events(service: Service) -> None:
    status, body = await request(service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["endpoint.disabled"]))

    assert (status, list(body["errors"])) == (422, ["events"])


async def test_the_built_in_receiver_is_not_shown(service: Service) -> None:
    assert (await request(service, "GET", f"{PATH}/0"))[0] == 404
