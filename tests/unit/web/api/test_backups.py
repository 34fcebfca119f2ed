"""…/backups/endpoints: what a backup contains, and how restoring it affects existing endpoints."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pipeline.endpoints.vault import Vault
from schemas.audit import AuditAction
from tests.unit.delivery.delivery_case import answer
from tests.unit.sample_events import disabled
from tests.unit.web.endpoint_requests import PATH, request, wrapped
from tests.unit.web.service import LATER, Service, running_service

BACKUP = "/api/webhook/backups/endpoints"
HOOKS = "http://127.0.0.1/hooks"
LINE = {"id": 1, "target_url": HOOKS, "events": [], "created_at": "2026-03-02T15:04:00Z", "updated_at": "2026-03-02T15:04:00Z"}


async def exported(service: Service) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    async with service.client.get(BACKUP) as response:
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
        header, *lines = map(json.loads, (await response.text()).splitlines())
    return header, lines


async def restore(service: Service, *lines: dict[str, Any], **options: bool) -> list[dict[str, Any]]:
    status, body = await request(service, "POST", BACKUP, json={"restore": {"endpoints": lines, **options}})
    assert status == 200, body
    restored: list[dict[str, Any]] = body["restored"]
    return restored


def done(step: str, restored_as: int | None, *differences: str, reason: str = "", number: int = 1) -> dict[str, Any]:
    return {
        "id": number,
        "target_url": HOOKS,
        "step": step,
        "restored_as": restored_as,
        "differences": list(differences),
        "reason": reason,
    }


async def test_a_backup_has_all_endpoints_and_no_secret_in_clear(service: Service) -> None:
    await service.create(token="t0ken-in-clear", headers={"X-Tenant": "acme-in-clear"})
    await service.create("http://127.0.0.1/gone")
    secret = service.vault.open(service.kafka.changes[0].secrets[0].sealed)
    await request(service, "DELETE", f"{PATH}/3")

    header, lines = await exported(service)

    assert header == {
        "format": "oms-webhooks endpoints",
        "format_version": 1,
        "exported_at": "2026-03-02T15:04:00.512000Z",
        "endpoints": 1,
    }
    assert [(line["id"], line["target_url"]) for line in lines] == [(1, HOOKS)]
    text = json.dumps(lines)
    assert not any(clear in text for clear in (secret, "t0ken-in-clear", "acme-in-clear"))
    assert service.vault.open(lines[0]["secrets"][0]["sealed"]) == secret
    [entry] = service.kafka.audits
    assert (entry.action, entry.detail) == (AuditAction.EXPORT_ENDPOINTS, "1 endpoint")


async def test_unchanged_endpoints_are_left_alone(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    assert await restore(service, line) == [done("none", 1)]
    assert await restore(service, line, overwrite=True) == [done("none", 1)]
    assert len(service.kafka.changes) == 1
    assert [entry.detail for entry in service.kafka.audits[1:]] == ["1 endpoint", "1 endpoint, overwriting"]


async def test_a_deleted_endpoint_is_restored_with_its_id_and_secrets(service: Service) -> None:
    await service.create(token="t0ken", headers={"X-Tenant": "acme"}, description="Ada's", filters={"channel": ["spree"]})
    _, [line] = await exported(service)
    await request(service, "DELETE", f"{PATH}/1")
    assert await restore(service, line, dry_run=True) == [done("create", 1)]
    assert service.kafka.changes[-1].deleted, "a dry run changes nothing"

    assert await restore(service, line) == [done("create", 1)]

    back = service.kafka.changes[-1]
    assert (back.id, back.version, back.activated_version, back.change, back.deleted) == (1, 3, 3, "restore", False)
    assert (back.description, back.filters) == ("Ada's", {"channel": ("spree",)})
    assert service.vault.open(back.sealed_token or "") == "t0ken"
    assert service.vault.open(back.secrets[0].sealed) == service.vault.open(line["secrets"][0]["sealed"])
    assert await restore(service, line) == [done("none", 1)], "a second restore has nothing to do"
    assert (await request(service, "GET", f"{PATH}/1"))[1]["state"] == "active"


async def test_differences_are_overwritten_only_on_request(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    await request(service, "POST", f"{PATH}/1/rotate_secret")
    await request(service, "PATCH", f"{PATH}/1", **wrapped(active=False, description="new", token="t", headers={"X-A": "1"}))
    differences = ("description", "active", "token", "headers", "secrets")

    assert await restore(service, line) == [done("keep", 1, *differences)]
    assert await restore(service, line, overwrite=True, dry_run=True) == [done("update", 1, *differences)]
    assert len(service.kafka.changes) == 3
    assert await restore(service, line, overwrite=True) == [done("update", 1, *differences)]

    back = service.kafka.changes[-1]
    assert (back.version, back.activated_version, back.change, back.active) == (4, 4, "restore", True)
    assert (back.sealed_token, back.sealed_headers, len(back.secrets)) == (None, {}, 1)
    assert await restore(service, line, overwrite=True) == [done("none", 1)]


async def test_a_restore_takes_disabled_by_from_the_backup(service: Service) -> None:
    await service.create()
    _, [active] = await exported(service)
    await request(service, "PATCH", f"{PATH}/1", **wrapped(disabled=True))
    _, [stopped] = await exported(service)
    differences = ("active", "disabled_at", "disabled_by")

    assert await restore(service, active, overwrite=True) == [done("update", 1, *differences)]
    shown = (await request(service, "GET", f"{PATH}/1"))[1]
    assert (shown["state"], shown["disabled_at"], shown["disabled_by"], shown["disabled_reason"]) == ("active", None, None, None)
    assert await restore(service, stopped, overwrite=True) == [done("update", 1, *differences)]
    shown = (await request(service, "GET", f"{PATH}/1"))[1]
    assert (shown["state"], shown["disabled_at"]) == ("disabled", "2026-03-02T15:04:00.512Z")


async def test_a_receivers_consent_is_not_restored(service: Service) -> None:
    service.sender.exchange = answer(204)
    await service.create(verification="signed_event")
    _, [verified] = await exported(service)
    assert verified["verified_url"] == verified["target_url"]
    await request(service, "DELETE", f"{PATH}/1")

    assert await restore(service, verified) == [done("create", 1)]

    shown = (await request(service, "GET", f"{PATH}/1"))[1]
    assert (shown["state"], shown["verified_at"]) == ("unverified", None)
    assert await restore(service, verified) == [done("none", 1)]


async def test_restoring_another_kind_of_verification_makes_the_endpoint_unverified(service: Service) -> None:
    service.sender.exchange = answer(204)
    await service.create(verification="signed_event")
    _, [line] = await exported(service)
    asked = line | {"verification": "cloudevents_handshake"}

    assert await restore(service, asked, overwrite=True) == [done("update", 1, "verification")]

    assert (await request(service, "GET", f"{PATH}/1"))[1]["state"] == "unverified"


async def test_a_new_deployment_keeps_the_ids_and_does_not_reuse_them(service: Service) -> None:
    for number in range(3):
        await service.create(f"http://127.0.0.1/{number}")
    _, lines = await exported(service)
    assert [line["id"] for line in lines] == [1, 3, 5]
    async with running_service() as other:
        other.restart_with(f"{other.encryption_key},{service.encryption_key}")
        made = await restore(other, *lines)
        assert [(one["step"], one["restored_as"]) for one in made] == [("create", 1), ("create", 3), ("create", 5)]
        # Encrypted with its own key: the old one is no longer needed.
        own = Vault(other.encryption_key)
        assert [own.open(one.secrets[0].sealed) for one in other.kafka.changes] == [
            service.vault.open(line["secrets"][0]["sealed"]) for line in lines
        ]
        assert await other.create("http://127.0.0.1/new") not in (1, 3, 5)


async def test_known_health_does_not_apply_to_a_restored_endpoint(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    async with running_service() as other:
        other.restart_with(f"{other.encryption_key},{service.encryption_key}")
        other.learn(disabled(1))
        assert await restore(other, line) == [done("create", 1)]
        assert (await request(other, "GET", f"{PATH}/1"))[1]["state"] == "active"
        other.learn(disabled(1, endpoint_version=2))
        assert (await request(other, "GET", f"{PATH}/1"))[1]["state"] == "disabled"


async def test_the_id_of_another_endpoint_is_not_reused_even_after_its_deletion(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    async with running_service() as other:
        other.restart_with(f"{other.encryption_key},{service.encryption_key}")
        other.now[0] = LATER
        assert await other.create("http://127.0.0.1/another") == 1
        assert await restore(other, line, dry_run=True) == [done("create", None)]
        [made] = await restore(other, line)
        assert (made["step"], made["restored_as"] > 1) == ("create", True)
        assert await restore(other, line) == [done("none", made["restored_as"])], "it is found again under its new id"
        assert other.kafka.changes[0].target_url == "http://127.0.0.1/another"
        await request(other, "DELETE", f"{PATH}/{made['restored_as']}")
        await request(other, "DELETE", f"{PATH}/1")
        assert (await restore(other, line))[0]["restored_as"] != 1, "attempts are recorded under that id"


async def test_a_much_larger_id_is_not_reserved(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.endpoints.registry._MAX_CLAIMS", 10)
    await service.create()
    _, [line] = await exported(service)
    await request(service, "DELETE", f"{PATH}/1")
    [made] = await restore(service, line | {"id": 1000, "created_at": "2026-01-01T00:00:00Z"})
    assert (made["id"], made["step"], made["restored_as"] < 100) == (1000, "create", True)


async def test_a_target_url_registered_again_belongs_to_another_endpoint(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    await request(service, "DELETE", f"{PATH}/1")
    service.now[0] = LATER
    new_id = await service.create()
    reason = f"Its target_url belongs to endpoint {new_id}, which is a different one: delete or change that first."
    assert await restore(service, line, overwrite=True) == [done("refuse", None, reason=reason)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"deleted": True}, "It is the record of a deleted endpoint"),
        ({"secrets": []}, "it has no signing secret."),
        (
            {"sealed_token": "gAAAA"},
            "Its secrets were encrypted with another key: add that key to encryption_key, after the first one.",
        ),
        ({"target_url": "http://10.0.0.1/"}, "10.0.0.1 is a private address (10.0.0.0/8)"),
        ({"events": ["no_such"]}, "events has unknown event types: 'no_such'."),
        ({"filters": {"a..b": ["x"]}}, "filters must be expressions, or an object of paths"),
    ],
)
async def test_an_endpoint_that_could_not_be_registered_is_not_restored(
    service: Service, change: dict[str, Any], reason: str
) -> None:
    await service.create()
    _, [line] = await exported(service)
    written = len(service.kafka.changes)
    [refused] = await restore(service, line | change, overwrite=True)
    assert refused["step"] == "refuse"
    assert reason in refused["reason"]
    assert len(service.kafka.changes) == written


async def test_a_client_secret_is_not_restored_for_a_private_token_url(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    stored = {
        "type": "oauth2_client_credentials",
        "token_url": "http://10.0.0.1/token",
        "client_id": "oms",
        "sealed_secret": service.vault.seal("client-secret"),
    }
    [refused] = await restore(service, line | {"authentication": stored}, overwrite=True)
    assert refused["step"] == "refuse"
    assert "authentication.token_url must be reachable from the public internet: 10.0.0.1" in refused["reason"]


async def test_headers_that_the_sender_sets_itself_are_refused(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    [refused] = await restore(service, line | {"sealed_headers": {"Host": service.vault.seal("evil-value")}}, overwrite=True)
    assert refused["step"] == "refuse"
    assert "evil-value" not in refused["reason"]


async def test_fields_of_a_newer_release_are_restored(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    await request(service, "DELETE", f"{PATH}/1")
    line["secrets"][0]["made_by"] = line["color"] = {"a": [1.5, None]}

    assert await restore(service, line) == [done("create", 1)]

    _, [again] = await exported(service)
    assert (again["color"], again["secrets"][0]["made_by"]) == (line["color"], line["color"])


async def test_two_simultaneous_restores_write_once(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    await request(service, "DELETE", f"{PATH}/1")
    [first], [second] = await asyncio.gather(restore(service, line), restore(service, line))
    assert {first["step"], second["step"]} == {"create", "none"}


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({}, "restore", "Send the lines of a backup"),
        ({"restore": {}}, "endpoints", "endpoints is required."),
        ({"restore": {"endpoints": []}}, "endpoints", "a list of 1 to 50"),
        ({"restore": {"endpoints": [{}] * 51}}, "endpoints", "a list of 1 to 50"),
        ({"restore": {"endpoints": [{"id": 1}]}}, "endpoints", "number 1 is not the record of an endpoint: target_url"),
        ({"restore": {"endpoints": ["x"]}}, "endpoints", "number 1 is not the record"),
        ({"restore": {"endpoints": [LINE | {"schema_version": 3}]}}, "endpoints", "this release reads up to 2"),
        ({"restore": {"endpoints": [LINE | {"secrets": [{"sealed": 7}]}]}}, "endpoints", "secrets[0].sealed: Expected `str`"),
        ({"restore": {"endpoints": [], "dry_run": "yes"}}, "dry_run", "true or false"),
    ],
)
async def test_an_invalid_backup_is_refused(service: Service, body: object, field: str, sentence: str) -> None:
    status, answer = await request(service, "POST", BACKUP, json=body)
    assert status == 422
    assert sentence in " ".join(answer["errors"][field])


async def test_without_kafka_it_answers_503(service: Service) -> None:
    await service.create()
    _, [line] = await exported(service)
    service.kafka.is_down = True
    assert (await request(service, "GET", BACKUP))[0] == 503
    status, _ = await request(service, "POST", BACKUP, json={"restore": {"endpoints": [line]}})
    assert status == 503


async def test_headers_accepted_by_an_older_release_are_restored_but_not_sent(service: Service) -> None:
    identifier = await service.create(headers={"X-Tenant": "acme"})
    _, [line] = await exported(service)
    line["sealed_headers"]["webhook_id"] = service.vault.seal("mine")

    [restored] = await restore(service, line, overwrite=True)

    assert restored["step"] == "update"
    shown = (await request(service, "GET", f"{PATH}/{identifier}"))[1]
    assert (shown["header_names"], shown["unsent_headers"]) == (["webhook_id", "x-tenant"], ["webhook_id"])
    status, shown = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(headers={"webhook_id": None}))
    assert (status, shown["header_names"], shown["unsent_headers"]) == (200, ["x-tenant"], [])
