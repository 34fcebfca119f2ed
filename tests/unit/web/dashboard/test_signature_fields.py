"""Signature fields of the form, and rotations with an overlap."""

from __future__ import annotations

import pytest

from tests.unit.web.dashboard.test_endpoint_forms import register
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import Service


async def test_a_key_pair_and_a_second_header(service: Service, admin: Visitor) -> None:
    page = await register(
        admin, v1a="on", signature_name="X-Signature", signature_encoding="base64", signature_secret="hunter2-secret"
    )
    record = service.kafka.changes[-1]
    [pair] = record.key_pairs
    assert record.signature_header is not None
    seen = await admin.go(page)
    assert pair.public_key in seen.text
    assert "HMAC-SHA256 of the body in base64" in seen.text
    assert "hunter2" not in (await admin.go(f"{page}/edit")).html
    await admin.send(f"{page}/edit", {"description": "changed"})
    kept = service.kafka.changes[-1]
    assert (kept.key_pairs, kept.signature_header) == (record.key_pairs, record.signature_header)

    await admin.go(f"{page}/rotate_key_pair")
    seen = await admin.send(f"{page}/rotate_key_pair", {"overlap_hours": "72"})
    assert "valid for another 72 hours" in seen.text
    assert [one.expires_at is None for one in service.kafka.changes[-1].key_pairs] == [True, False]


@pytest.mark.parametrize(("hours", "secrets", "words"), [("0", 1, "no longer valid"), ("168", 2, "for another 168 hours")])
async def test_a_secret_is_rotated_with_an_overlap(
    service: Service, admin: Visitor, hours: str, secrets: int, words: str
) -> None:
    page = await register(admin)
    await admin.go(f"{page}/rotate")
    seen = await admin.send(f"{page}/rotate", {"overlap_hours": hours})
    assert words in seen.text
    assert len(service.kafka.changes[-1].secrets) == secrets


async def test_errors_are_shown_at_the_field(service: Service, admin: Visitor) -> None:
    await admin.go("/webhooks/endpoints/new")
    fields = {"target_url": "http://127.0.0.1/hooks", "events": ["order_completed"], "signature_name": "webhook-id"}
    seen = await admin.send("/webhooks/endpoints", fields)
    assert (seen.status, 'id="signature_header-errors"' in seen.html) == (422, True)
    assert not service.kafka.changes
