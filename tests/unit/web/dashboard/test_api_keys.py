"""The page of API keys."""

from __future__ import annotations

from schemas.api_key import Access
from schemas.audit import AuditAction
from tests.unit.web.dashboard.visitor import Visitor, visiting
from tests.unit.web.service import Service

KEYS = "/webhooks/keys"


async def test_a_key_is_created_and_shown_once(service: Service, admin: Visitor) -> None:
    await admin.go(KEYS)
    seen = await admin.send(KEYS, {"name": "Ada", "role": "operator"})
    (record,) = service.ring.valid()
    assert (record.name, record.role, record.created_by.startswith("api-key:")) == ("Ada", Access.OPERATOR, True)
    key = next(word for word in seen.text.split() if word.startswith("omsw_"))
    assert record.id in seen.text
    assert [(entry.action, entry.detail) for entry in service.kafka.audits] == [(AuditAction.CREATE_KEY, "operator Ada")]
    assert key not in (await admin.go(KEYS)).text

    async with visiting(service) as ada:
        seen = await ada.log_in(key)
        assert (seen.status, "Ada" in seen.text) == (200, True)


async def test_invalid_input_is_explained(service: Service, admin: Visitor) -> None:
    await admin.go(KEYS)
    seen = await admin.send(KEYS, {"name": " ", "role": "emperor"})
    assert seen.status == 422
    assert "Must be text of 1 to 100 characters" in seen.text
    assert "Must be one of viewer, operator, admin." in seen.text
    assert service.ring.valid() == []


async def test_a_key_is_revoked_after_a_confirmation(service: Service, admin: Visitor) -> None:
    await service.key(Access.VIEWER)
    (record,) = service.ring.valid()
    seen = await admin.go(f"{KEYS}/{record.id}/revoke")
    assert "Revoke this key?" in seen.text
    assert "You are logged in with this key" not in seen.text
    seen = await admin.send(f"{KEYS}/{record.id}/revoke")
    assert "The key “Ada” was revoked." in seen.text
    assert service.ring.valid() == []
    assert (await admin.go(f"{KEYS}/{record.id}/revoke")).status == 404


async def test_revoking_ones_own_key_logs_out(service: Service, visitor: Visitor) -> None:
    await visitor.log_in(await service.key(Access.ADMIN))
    (record,) = service.ring.valid()
    seen = await visitor.go(KEYS)
    assert "(you)" in seen.text
    seen = await visitor.go(f"{KEYS}/{record.id}/revoke")
    assert "You are logged in with this key" in seen.text
    seen = await visitor.send(f"{KEYS}/{record.id}/revoke")
    assert seen.path.startswith("/webhooks/login")
