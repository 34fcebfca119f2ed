"""Rows are read as they were written, in every table, on both engines."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from pipeline.store.reports.recent import DeadLetterSummary, Reports
from pipeline.store.rows import RowPosition, attempt_id, attempt_row, dead_letter_row, endpoint_change_row, event_row
from pipeline.store.search.queries import AttemptDetail, AttemptRow
from pipeline.store.writer import Table
from schemas.attempt import AttemptState, Outcome
from schemas.delivery import DeadLetter, DeadLetterReason, Trigger
from schemas.endpoint import EndpointRecord, SealedSecret
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, body, dispatch, meta

ANY_BYTES = bytes(range(256)) * 2


async def test_an_attempt_with_every_field(store: Store) -> None:
    one = attempt(
        5,
        event=meta(5, order_number="R'5\\\"\t\n 日本"),
        trigger=Trigger.RESEND,
        attempt=6,
        state=AttemptState.FAILED,
        outcome=Outcome.RETRIED,
        http_status_code=503,
        failure="status",
        error="The endpoint returned 503, not 200, 201, 202 or 204.",
        next_attempt_at=START + timedelta(minutes=1),
        response_body="nul\x00, emoji 🎁, GÜNTHER",
        response_truncated=True,
    )
    await store.writer.append(Table.ATTEMPTS, 3, [attempt_row(RowPosition(3, 9), one)])
    await store.writer.append(Table.EVENTS, 0, [event_row(RowPosition(0, 0), dispatch(5, event=one.event), body(5, "Grüße"))])

    detail = await store.search.attempt(attempt_id(3, 9))

    assert detail == AttemptDetail(
        attempt=AttemptRow(
            id=attempt_id(3, 9),
            event_id="evt_5",
            event_name="order_completed",
            event_created_at=one.event.created_at,
            order_number="R'5\\\"\t\n 日本",
            shipment_numbers=one.event.shipment_numbers,
            subscription_id="S5",
            stock_item_id=5,
            skus=("SKU-5", "MUG"),
            endpoint_id=7,
            target_url="https://shop.example/hooks",
            attempt=6,
            trigger="resend",
            state="failed",
            outcome="repeated",
            created_at=one.created_at,
            duration_ms=12.375,
            first_byte_ms=11.25,
            http_status_code=503,
            failure="status",
            error=one.error,
            next_attempt_at=START + timedelta(minutes=1),
        ),
        request_headers={"webhook-id": "evt_5"},
        response_headers=(("Server", "nginx"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")),
        response_body="nul\x00, emoji 🎁, GÜNTHER",
        response_body_encoding="text",
        response_truncated=True,
        request_body=body(5, "Grüße").decode(),
        siblings=(),
    )


async def test_an_attempt_with_only_required_fields(store: Store) -> None:
    bare = meta(1, order_number=None, shipment_numbers=(), subscription_id=None, stock_item_id=None, skus=())
    one = attempt(
        1, event=bare, first_byte_ms=None, http_status_code=None, request_headers={}, response_headers=(), response_body=""
    )
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, 0), one)])

    detail = await store.search.attempt(attempt_id(0, 0))

    assert detail is not None
    row = detail.attempt
    assert (row.order_number, row.shipment_numbers, row.subscription_id, row.stock_item_id, row.skus) == (
        None,
        (),
        None,
        None,
        (),
    )
    assert (row.first_byte_ms, row.http_status_code, row.failure, row.error, row.next_attempt_at) == (None,) * 5
    assert (detail.request_headers, detail.response_headers, detail.response_body) == ({}, (), "")
    assert detail.request_body is None


async def test_references_without_a_column_lose_only_the_reference(store: Store) -> None:
    strange = meta(1, stock_item_id=2**70, created_at=datetime(1, 1, 1, tzinfo=UTC))
    late = meta(2, created_at=datetime(9999, 12, 31, tzinfo=UTC))
    rows = [attempt_row(RowPosition(0, offset), attempt(1, event=event)) for offset, event in enumerate((strange, late))]
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    first, second = (await store.search.attempt(attempt_id(0, 0)), await store.search.attempt(attempt_id(0, 1)))
    assert first is not None
    assert second is not None
    assert (first.attempt.stock_item_id, first.attempt.event_created_at.year) == (None, 1900)
    assert second.attempt.event_created_at.year == 2299


async def test_an_event(store: Store) -> None:
    row = event_row(RowPosition(2, 41), dispatch(1), body(1, "日本 \\u00e9 \\\\"))
    await store.writer.append(Table.EVENTS, 2, [row])
    assert await store.rows("SELECT * FROM events") == [
        (
            "evt_1",
            "order_completed",
            START + timedelta(seconds=1),
            START + timedelta(seconds=1, milliseconds=50),
            "R000000001",
            list(meta(1).shipment_numbers),
            "S1",
            1,
            ["SKU-1", "MUG"],
            [7, 8],
            body(1, "日本 \\u00e9 \\\\").decode(),
            "oms.orders",
            3,
            1001,
            "",
            2,
            41,
        )
    ]


async def test_dead_letters_keep_any_bytes_and_distinguish_null_from_empty(store: Store) -> None:
    letters = [
        DeadLetter(
            reason=DeadLetterReason.NOT_JSON,
            detail="The value is not JSON.",
            topic="oms.orders",
            partition=1,
            offset=offset,
            failed_at=START + timedelta(seconds=offset),
        )
        for offset in range(3)
    ]
    contents = [(ANY_BYTES, ANY_BYTES), (None, None), (b"", b"")]
    headers = [("schema", b"\xff\x00\xfe"), ("", b"")]
    rows = [
        dead_letter_row(RowPosition(0, letter.offset), letter, key, value, headers if letter.offset else [])
        for letter, (key, value) in zip(letters, contents, strict=True)
    ]
    await store.writer.append(Table.DEAD_LETTERS, 0, rows)

    reports = Reports(store.connections)
    listed = (await reports.dead_letters(1, 10)).items
    found = [await reports.dead_letter(one.id) for one in listed]

    assert [one and (one.key, one.value) for one in found] == contents[::-1]
    assert [one and one.headers for one in found] == [tuple(headers), tuple(headers), ()]
    assert [one and one.summary for one in found] == list(listed)
    first = ("not_json", "The value is not JSON.", "oms.orders", 1, 0, START, len(ANY_BYTES))
    assert listed[2] == DeadLetterSummary(listed[2].id, *first)
    assert (await reports.dead_letters(1, 1)).items == listed[:1]


async def test_endpoint_changes_contain_no_secret(store: Store) -> None:
    endpoint = EndpointRecord(
        id=12,
        target_url="https://shop.example/hooks",
        events=("order_completed", "shipment_shipped"),
        description="Günther's shop",
        active=False,
        filters={"channel": ("spree", None, 1, 1.5, True), "ship_address.country_iso": ("DE",)},
        sealed_token="sealed-token",
        secrets=(SealedSecret(sealed="sealed-secret"),),
        created_at=START,
        updated_at=START + timedelta(days=1),
        version=4,
        change="update",
        changed_by="api key ab12",
    )
    await store.writer.append(Table.ENDPOINT_CHANGES, 0, [endpoint_change_row(RowPosition(0, 77), endpoint)])

    [row] = await store.rows("SELECT * FROM endpoint_changes")

    assert row[:5] == (12, 4, "update", "api key ab12", START + timedelta(days=1))
    assert row[5:9] == ("https://shop.example/hooks", ["order_completed", "shipment_shipped"], False, "Günther's shop")
    assert json.loads(row[9]) == ['data.channel in ["spree", null, 1, 1.5, true]', 'data.ship_address.country_iso == "DE"']
    assert row[10:] == (0, 77)
    assert "sealed" not in repr(row)


async def test_analysts_see_each_attempt_once_with_its_body(store: Store) -> None:
    await store.writer.append(
        Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, offset), attempt(1, attempt=offset + 1)) for offset in range(2)]
    )
    without_event = attempt_row(RowPosition(0, 2), attempt(2))
    await store.writer.append(Table.ATTEMPTS, 0, [without_event])
    # The fan-out crashed and dispatched the event again.
    await store.writer.append(Table.EVENTS, 0, [event_row(RowPosition(0, offset), dispatch(1), body(1)) for offset in range(2)])
    rows = await store.rows("SELECT id, event_id, attempt, request_body FROM attempt_details ORDER BY id")
    assert rows == [
        (attempt_id(0, 0), "evt_1", 1, body(1).decode()),
        (attempt_id(0, 1), "evt_1", 2, body(1).decode()),
        (attempt_id(0, 2), "evt_2", 1, ""),
    ]
