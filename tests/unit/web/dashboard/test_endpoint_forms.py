"""Registering, changing, pausing, rotating and deleting endpoints with forms."""

from __future__ import annotations

import pytest

from schemas.event import EventType
from tests.unit.delivery.delivery_case import answer
from tests.unit.sample_events import held_fact
from tests.unit.schemas.versioned_types import VERSIONED
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import Service
from tests.unit.web.test_filter_preview import shop_events

NEW = "/webhooks/endpoints/new"
LIST = "/webhooks/endpoints"
FIELDS = {"target_url": "http://127.0.0.1/hooks", "events": ["order_completed", "shipment_shipped"]}


async def register(admin: Visitor, **fields: str | list[str]) -> str:
    """Register an endpoint with the form, and return its page."""
    await admin.go(NEW)
    seen = await admin.send(LIST, FIELDS | fields)
    assert seen.status == 200, seen.text
    return seen.path


async def test_register(service: Service, admin: Visitor) -> None:
    await admin.go(NEW)
    seen = await admin.send(
        LIST,
        FIELDS
        | {"description": "The\r\nERP", "token": "hunter2-token", "max_per_second": "5", "filters": '{"channel": "spree"}'},
    )
    (record,) = service.kafka.changes
    assert seen.path == f"/webhooks/endpoints/{record.id}"
    assert "The endpoint is registered." in seen.text
    assert (record.target_url, record.events) == ("http://127.0.0.1/hooks", ("order_completed", "shipment_shipped"))
    assert (record.description, record.max_per_second, record.active) == ("The\nERP", 5, True)
    assert record.filters == {"channel": ("spree",)}
    assert service.vault.open(record.sealed_token or "") == "hunter2-token"
    assert record.changed_by.startswith("api-key:")
    assert "hunter2-token" not in seen.html


async def test_versions_can_be_pinned_if_there_are_several(service: Service, admin: Visitor) -> None:
    assert "Pinned versions" not in (await admin.go(NEW)).text
    service.events.use(VERSIONED)
    page = await register(admin, events=["refund_issued"], event_type_versions="refund_issued=1")
    assert "Refund issued: version 1 only" in (await admin.go(page)).text
    assert "refund_issued has 1 and 2" in (await admin.go(f"{page}/edit")).text
    wrong = await admin.send(f"{page}/edit", {"event_type_versions": "refund_issued=latest"})
    assert "Must be written as refund_issued=1" in wrong.text
    await admin.go(f"{page}/edit")
    await admin.send(f"{page}/edit", {"event_type_versions": ""})
    assert [record.event_type_versions for record in service.kafka.changes] == [{"refund_issued": 1}, {}]


async def test_retries_are_chosen_by_name_or_as_delays(service: Service, admin: Visitor) -> None:
    page = await register(admin, retry_policy="patient")
    assert "Standard: Retries after 5 s, 1 min, 10 min, 1 h and 6 h; gives up after 7 h 11 min" in (await admin.go(NEW)).text
    await admin.go(f"{page}/edit")
    seen = await admin.send(f"{page}/edit", {"retry_policy": "custom", "retry_delays": "5s, 10m"})
    assert "Retries after 5 s and 10 min; gives up after 10 min 5 s." in seen.text

    await admin.go(f"{page}/edit")
    await admin.send(f"{page}/edit", {"description": "It keeps its delays"})
    assert [record.retry_policy for record in service.kafka.changes] == ["patient", "5s,10m", "5s,10m"]

    await admin.go(f"{page}/edit")
    wrong = await admin.send(f"{page}/edit", {"retry_delays": "2m"})
    assert "Choose from 5s, 1m, 10m, 1h, 6h." in wrong.text


async def test_an_endpoint_is_verified_before_it_receives_anything(service: Service, admin: Visitor) -> None:
    service.sender.exchange = answer(404)
    page = await register(admin, verification="signed_event")
    assert "Unverified" in (await admin.go(LIST)).text
    seen = await admin.go(page)
    assert "This endpoint is not verified, and receives nothing until it is" in seen.text
    assert "404" in seen.text
    again = await admin.send(f"{page}/verify", {})
    assert "The endpoint is not verified." in again.text

    service.sender.exchange = answer(204)
    await admin.go(page)
    assert "The endpoint is verified." in (await admin.send(f"{page}/verify", {})).text
    await admin.go(f"{page}/edit")
    await admin.send(f"{page}/edit", {"description": "It stays verified"})
    assert len(service.sender.requests) == 3
    service.sender.exchange = answer(500)
    await admin.go(f"{page}/edit")
    moved = await admin.send(f"{page}/edit", {"target_url": "http://127.0.0.1/moved"})
    assert "is not verified" in moved.text
    await admin.go(f"{page}/edit")
    free = await admin.send(f"{page}/edit", {"verification": "none"})
    assert "is not verified" not in free.text


async def test_the_secret_is_shown_once(service: Service, admin: Visitor) -> None:
    page = await register(admin)
    assert admin.seen is not None
    (record,) = service.kafka.changes
    secret = service.vault.open(record.secrets[0].sealed)
    assert secret in admin.seen.text
    assert secret not in (await admin.go(page)).text


async def test_register_paused(service: Service, admin: Visitor) -> None:
    form_page = await admin.go(NEW)
    pairs = [(name, value) for name, value in form_page.form(LIST).fields if name not in {"active", "target_url"}]
    await admin.post(LIST, [*pairs, ("target_url", "http://127.0.0.1/hooks"), ("events", "order_completed")])
    assert [record.active for record in service.kafka.changes] == [False]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("target_url", "", "Must be a URL"),
        ("target_url", "ftp://127.0.0.1/", "http"),
        ("target_url", "http://10.0.0.1/", "10.0.0.1"),
        ("events", [], "Select at least one event type."),
        ("events", ["order_eaten"], "Has unknown event types"),
        ("token", "two words", "Must be 1 to 1024"),
        ("max_per_second", "many", "Must be a whole number"),
        ("max_per_second", "0", "Must be a whole number"),
        ("retry_policy", "furious", "Must be standard, patient, impatient"),
        ("filters", "{", "column 2: the expression ends too early."),
        ("filters", "data.total >", "column 13: the expression ends too early."),
        ("filters", "[" * 100_000, "Must be a list of expressions"),
        ("description", "a" * 1001, "Must be text of at most 1000"),
    ],
)
async def test_errors_are_shown_at_their_fields(
    service: Service, admin: Visitor, field: str, value: str | list[str], sentence: str
) -> None:
    await admin.go(NEW)
    seen = await admin.send(LIST, FIELDS | {"description": "kept <as> it was"} | {field: value})
    assert seen.status == 422
    assert f'id="{field}-errors"' in seen.html
    assert sentence in seen.text
    assert not service.kafka.changes
    if field not in {"events", "description"}:
        fields = seen.form(LIST).fields
        assert ("description", "kept <as> it was") in fields
        assert ("events", "shipment_shipped") in fields
        # A token is never shown again.
        assert ("token", "") in fields


@pytest.mark.parametrize(
    ("fields", "errors_of", "sentence"),
    [
        ({"retry_policy": "custom"}, "retry_delays", "Must be one to 5 delays"),
        ({"retry_policy": "custom", "retry_delays": "5x"}, "retry_delays", "'5x' is not a delay"),
        ({"max_per_second": "0"}, "max_per_second", "or empty for no limit"),
    ],
)
async def test_errors_say_what_to_enter_in_the_form(
    admin: Visitor, fields: dict[str, str], errors_of: str, sentence: str
) -> None:
    await admin.go(NEW)
    seen = await admin.send(LIST, FIELDS | fields)
    assert (f'id="{errors_of}-errors"' in seen.html, sentence in seen.text, "null" in seen.text) == (True, True, False)


async def test_all_errors_are_shown_at_once(admin: Visitor) -> None:
    await admin.go(NEW)
    seen = await admin.send(LIST, {"target_url": "ftp://127.0.0.1", "filters": "{", "max_per_second": "x"})
    for field in ("target_url", "events", "filters", "max_per_second"):
        assert f'id="{field}-errors"' in seen.html


async def test_registering_a_known_url_leads_to_its_endpoint(service: Service, admin: Visitor) -> None:
    identifier = await service.create()
    page = await register(admin)
    assert page == f"/webhooks/endpoints/{identifier}"
    assert admin.seen is not None
    assert "This URL is already registered" in admin.seen.text
    assert len(service.kafka.changes) == 1


async def test_subscribing_to_all_events_shows_a_warning(admin: Visitor) -> None:
    page = await register(admin, events=[event.value for event in EventType])
    assert admin.seen is not None
    assert "This endpoint subscribes to all events." in admin.seen.text
    await admin.go(f"{page}/edit")
    seen = await admin.send(f"{page}/edit", {"events": ["order_completed"]})
    assert "This endpoint subscribes to all events." not in seen.text


async def test_edit(service: Service, admin: Visitor) -> None:
    page = await register(admin, token="secret-token", filters='{"channel": ["spree"]}', max_per_second="5")
    form = (await admin.go(f"{page}/edit")).form(f"{page}/edit")
    assert ("target_url", "http://127.0.0.1/hooks") in form.fields
    assert [value for name, value in form.fields if name == "events"] == ["order_completed", "shipment_shipped"]
    assert dict(form.fields)["filters"] == 'data.channel == "spree"'
    assert dict(form.fields)["token"] == ""

    seen = await admin.send(f"{page}/edit", {"description": "changed", "events": ["stock_item_back_in_stock"], "filters": ""})

    assert (seen.path, "Changes saved." in seen.text) == (page, True)
    record = service.kafka.changes[-1]
    assert (record.description, record.events, record.filters) == ("changed", ("stock_item_back_in_stock",), {})
    assert record.max_per_second == 5
    assert service.vault.open(record.sealed_token or "") == "secret-token"


async def test_an_edit_keeps_the_line_breaks_of_a_description(service: Service, admin: Visitor) -> None:
    page = await register(admin, description="ERP\r\nOwned by Ada")
    await admin.go(f"{page}/edit")
    seen = await admin.send(f"{page}/edit", {"max_per_second": "5"})
    assert service.kafka.changes[-1].description == "ERP\nOwned by Ada"
    assert "<h1>ERP</h1>" in seen.html
    await admin.go(f"{page}/edit")
    seen = await admin.send(f"{page}/edit", {"version": "1", "description": "ERP\r\nOwned by Ada"})
    assert (seen.status, "Description is now" in seen.text) == (412, False), "browsers send CR LF"


async def test_a_token_can_be_removed(service: Service, admin: Visitor) -> None:
    page = await register(admin, token="secret-token")
    await admin.go(f"{page}/edit")
    await admin.send(f"{page}/edit", {"remove_token": "on"})
    assert service.kafka.changes[-1].sealed_token is None


async def test_an_edit_does_not_undo_somebody_elses_change(service: Service, admin: Visitor) -> None:
    page = await register(admin)
    await admin.go(f"{page}/edit")
    body = {"endpoint": {"description": "by somebody else"}}
    async with service.client.patch(page.replace("/webhooks/", "/api/webhook/"), json=body) as response:
        assert response.status == 200

    seen = await admin.send(f"{page}/edit", {"description": "mine"})

    assert (seen.status, "Someone else changed this endpoint" in seen.text) == (412, True)
    assert "Description is now by somebody else" in seen.text
    assert "Target url is now" not in seen.text, "only the differences"
    assert service.kafka.changes[-1].description == "by somebody else"
    # The input is still there, and can be saved by somebody who has seen both.
    fields = dict(seen.form(f"{page}/edit").fields)
    assert (fields["description"], fields["version"]) == ("mine", "2")
    seen = await admin.send(f"{page}/edit")
    assert (seen.status, service.kafka.changes[-1].description) == (200, "mine")


@pytest.mark.parametrize(
    ("theirs", "shown"),
    [
        ({"v1a": "on"}, "V1a signature is now on; if you save with it turned off, its key pair is deleted permanently"),
        (
            {"signature_name": "X-Signature", "signature_prefix": "sha256=", "signature_secret": "hunter2-secret"},
            "Second signature header is now x-signature in hex, prefix sha256=",
        ),
        (
            {"authentication": "basic", "auth_username": "grace", "auth_password": "hunter2-word"},
            "Authentication is now HTTP Basic: username and password; username: grace",
        ),
    ],
)
async def test_an_edit_names_signatures_and_authentication_that_it_would_undo(
    service: Service, admin: Visitor, theirs: dict[str, str], shown: str
) -> None:
    page = await register(admin, authentication="basic", auth_username="ada", auth_password="hunter2-word")
    mine = await admin.go(f"{page}/edit")
    await admin.send(f"{page}/edit", theirs)
    admin.seen = mine
    seen = await admin.send(f"{page}/edit")

    assert seen.status == 412
    assert shown in seen.text
    assert seen.text.count("is now") == 1, "only the differences"
    assert "hunter2" not in seen.html
    # Somebody who starts over gets the other person's values.
    await admin.go(f"{page}/edit")
    record = service.kafka.changes[-1]
    await admin.send(f"{page}/edit", {"description": "mine"})
    kept = service.kafka.changes[-1]
    assert (kept.key_pairs, kept.signature_header) == (record.key_pairs, record.signature_header)


async def test_an_invalid_edit_is_not_saved(service: Service, admin: Visitor) -> None:
    page = await register(admin)
    await admin.go(f"{page}/edit")
    seen = await admin.send(f"{page}/edit", {"target_url": "nonsense"})
    assert (seen.status, seen.form(f"{page}/edit").method) == (422, "post")
    assert len(service.kafka.changes) == 1


async def test_confirmations_name_the_endpoint_and_its_url(service: Service, admin: Visitor) -> None:
    named = await service.create("http://127.0.0.1/erp", description="The ERP\nof the shop")
    nameless = await service.create("http://127.0.0.1/other")
    for what in ("pause", "delete", "rotate"):
        asked = await admin.go(f"/webhooks/endpoints/{named}/{what}")
        assert asked.status == 200
        assert "? The ERP http://127.0.0.1/erp " in asked.text, what
        assert "? http://127.0.0.1/other " in (await admin.go(f"/webhooks/endpoints/{nameless}/{what}")).text, what


async def test_pause_and_resume(service: Service, admin: Visitor) -> None:
    page = await register(admin)
    asked = await admin.go(f"{page}/pause")
    assert "are held and use up no attempts" in asked.text
    assert "After 14 days, held deliveries expire" in asked.text
    seen = await admin.send(f"{page}/pause")
    assert "held for up to 14 days" in seen.text
    assert not service.kafka.changes[-1].active
    seen = await admin.send(f"{page}/resume")
    assert "receives webhooks again" in seen.text
    assert service.kafka.changes[-1].active


async def test_held_deliveries_are_shown_and_dropped_by_their_number(service: Service, admin: Visitor) -> None:
    page = await register(admin)
    await admin.go(f"{page}/pause")
    await admin.send(f"{page}/pause")
    identifier = int(page.rpartition("/")[2])
    service.learn(held_fact(identifier, 1_297))
    shown = await admin.go(page)
    assert "1,297 deliveries are held" in shown.text
    assert "Drop 1,297 held deliveries" in shown.text
    assert "1,297 held" in (await admin.go("/webhooks/endpoints")).text

    asked = await admin.go(f"{page}/drop")
    assert "Drop 1,297 held deliveries?" in asked.text
    service.learn(held_fact(identifier, 1_298))
    late = await admin.send(f"{page}/drop")
    assert "1,298 are held for this endpoint now, not 1,297, so nothing was dropped" in late.text
    assert not service.kafka.changes[-1].drops

    await admin.go(f"{page}/drop")
    done = await admin.send(f"{page}/drop")
    assert "1,298 held deliveries are dropped" in done.text
    assert "Drop 1,298" not in done.text
    [drop] = service.kafka.changes[-1].drops
    assert (drop.partition, drop.below) == (2, 5_000)
    again = await admin.go(f"{page}/drop")
    assert "Nothing is held for this endpoint" in again.text


async def test_resuming_says_how_many_deliveries_are_sent(service: Service, admin: Visitor) -> None:
    page = await register(admin)
    await admin.go(f"{page}/pause")
    await admin.send(f"{page}/pause")
    service.learn(held_fact(int(page.rpartition("/")[2]), 1))
    await admin.go(page)
    seen = await admin.send(f"{page}/resume")
    assert "1 held delivery is sent now" in seen.text


async def test_rotate(service: Service, admin: Visitor) -> None:
    page = await register(admin)
    seen = await admin.go(f"{page}/rotate")
    assert "24 hours" in seen.text
    seen = await admin.send(f"{page}/rotate")
    record = service.kafka.changes[-1]
    assert [secret.expires_at is None for secret in record.secrets] == [True, False]
    assert service.vault.open(record.secrets[0].sealed) in seen.text
    assert "more than one is valid" in seen.text


async def test_delete_asks_first(service: Service, admin: Visitor) -> None:
    page = await register(admin)
    seen = await admin.go(f"{page}/delete")
    assert "Delete this endpoint?" in seen.text
    assert "http://127.0.0.1/hooks" in seen.text
    assert "recorded as not sent" not in seen.text
    assert [record.change for record in service.kafka.changes] == ["create"]

    service.learn(held_fact(int(page.rpartition("/")[2]), 1_297))
    seen = await admin.go(f"{page}/delete")
    assert "1,297 deliveries still wait for this endpoint, and will be recorded as not sent." in seen.text

    seen = await admin.send(f"{page}/delete")

    assert (seen.path, "http://127.0.0.1/hooks is deleted" in seen.text) == (LIST, True)
    assert service.kafka.changes[-1].deleted
    assert (await admin.go(page)).status == 404


async def test_custom_headers(service: Service, admin: Visitor) -> None:
    page = await register(admin)
    seen = await admin.send(f"{page}/headers", {"name": "X-Tenant", "value": "acme-secret"})
    assert "X-Tenant is sent with every request from now on." in seen.text
    assert "acme-secret" not in seen.html
    assert service.vault.open(service.kafka.changes[-1].sealed_headers["x-tenant"]) == "acme-secret"

    token = dict(seen.form("/webhooks/logout").fields)["csrf"]
    seen = await admin.post(f"{page}/headers", [("csrf", token), ("name", "X-Tenant"), ("remove", "1")])
    assert "X-Tenant is no longer sent." in seen.text
    assert service.kafka.changes[-1].sealed_headers == {}


@pytest.mark.parametrize(("name", "value"), [("Host", "evil"), ("", "x"), ("X-Tenant", ""), ("X-Tenant", "a\nb")])
async def test_an_invalid_header_is_refused(service: Service, admin: Visitor, name: str, value: str) -> None:
    page = await register(admin)
    seen = await admin.send(f"{page}/headers", {"name": name, "value": value})
    assert (seen.path, seen.status, "headers " in seen.text) == (page, 200, True)
    assert len(service.kafka.changes) == 1


async def test_a_change_that_kafka_does_not_confirm_is_reported(service: Service, admin: Visitor) -> None:
    await admin.go(NEW)
    service.kafka.is_down = True
    seen = await admin.send(LIST, FIELDS)
    assert (seen.status, "Kafka did not confirm the change in time." in seen.text) == (503, True)


async def test_the_form_has_a_preview_that_saves_nothing(service: Service, admin: Visitor) -> None:
    service.history.events = [past for _, past in shop_events()]
    form = (await admin.go("/webhooks/endpoints/new")).form(LIST)
    csrf = next(pair for pair in form.fields if pair[0] == "csrf")
    assert 'formaction="/webhooks/endpoints/new/preview"' in (admin.seen.html if admin.seen else "")
    fields = [csrf, ("target_url", "http://127.0.0.1/hooks"), ("events", "order_completed")]
    seen = await admin.post("/webhooks/endpoints/new/preview", [*fields, ("filters", 'data.channel == "spree"')])

    assert seen.status == 200
    assert "of 300 events in the last 7 days. Nothing was saved." in seen.text
    assert "It would have received, for example" in seen.text
    assert 'value="http://127.0.0.1/hooks"' in seen.html
    assert service.kafka.changes == []

    seen = await admin.post("/webhooks/endpoints/new/preview", [*fields, ("filters", "data.total >")])
    assert (seen.status, "column 13: the expression ends too early." in seen.text) == (422, True)


async def test_secrets_must_be_typed_again_after_a_preview(service: Service, admin: Visitor) -> None:
    await admin.go(NEW)
    secrets = {"token": "hunter2-token", "signature_name": "X-Signature", "signature_secret": "hunter2-secret"}
    fields = dict(admin.seen.form(LIST).fields if admin.seen else ()) | FIELDS | secrets
    pairs = [(name, one) for name, given in fields.items() for one in ([given] if isinstance(given, str) else given)]
    seen = await admin.post(f"{NEW}/preview", pairs)
    assert "Enter them again before you save: Token, Key of the second signature." in seen.text
    assert "hunter2" not in seen.html
    seen = await admin.send(LIST, {"target_url": "nonsense"})
    assert "Enter them again" not in seen.text, "no secret was typed this time"
