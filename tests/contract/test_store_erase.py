"""A person's data is erased from ClickHouse, on both engines: all of it is found and removed, and nothing else.

Tests that erase take a second or more: they wait for mutations, with which ClickHouse rewrites the parts of several tables.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.person_patterns import encoded_forms, whole_word_pattern
from pipeline.core.search import parse_query
from pipeline.store.bound_values import BoundValues
from pipeline.store.clickhouse_cluster import on_cluster, storage_table
from pipeline.store.connection import StoreRejectedError
from pipeline.store.erase import Eraser, PersonData, Subject
from pipeline.store.reader import Rows
from pipeline.store.reports.notification_history import NotificationHistory
from pipeline.store.rows import MAX_PARTITIONS, RowPosition, Table, attempt_id, attempt_row, dead_letter_row, event_row
from schemas.delivery import DeadLetter, DeadLetterReason
from schemas.event import EventMeta
from schemas.event_key import EVENT_KEY_HEADER, EVENT_SEQUENCE_HEADER
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, attempt_rows, dispatch, event_rows, meta
from tests.json_encoders import ALL_ENCODERS
from tests.waiting import until

ADA = "ada@shop.example"


def event(number: int, order: str, *, subscription: str | None = None) -> EventMeta:
    return meta(
        number,
        order_number=order,
        shipment_numbers=(f"H{number}",),
        subscription_id=subscription,
        key=f"oms.orders/3/{order}",
        sequence=1000 + number,
    )


def sent_headers(event: EventMeta) -> dict[str, str]:
    """Return an attempt's request headers about its event."""
    of_key = {} if event.key is None else {EVENT_KEY_HEADER: event.key, EVENT_SEQUENCE_HEADER: str(event.sequence)}
    return {"webhook-id": event.id, **of_key}


def letter(offset: int, key: bytes | None, value: bytes | None, detail: str = "no JSON") -> tuple[Any, ...]:
    made = DeadLetter(
        reason=DeadLetterReason.NOT_JSON, detail=detail, topic="oms.orders", partition=1, offset=offset, failed_at=START
    )
    return dead_letter_row(RowPosition(2, offset), made, key, value, [("from", b"ADA@shop.example")] if offset == 3 else [])


@pytest.fixture
async def filled(store: Store) -> Store:
    """Fill a store: Ada has order RADA-000001 (completed, then shipped), Grada has one too, and an endpoint quotes Ada's address."""
    ada, grada = (event(1, "RADA-000001", subscription="S1"), event(2, "RADA-0000012"))
    shipped = event(3, "RADA-000001")
    events = [
        event_row(RowPosition(0, 1), dispatch(1, event=ada), json.dumps({"email": "Ada@Shop.example"}).encode()),
        event_row(RowPosition(0, 2), dispatch(2, event=grada), json.dumps({"email": f"gr{ADA}", "cc": f"{ADA}.org"}).encode()),
        event_row(RowPosition(0, 3), dispatch(3, event=shipped), b'{"tracking":"1Z"}'),
        *event_rows(range(4, 20)),
    ]
    answers = {1: "ok", 2: "ok", 3: "shipped!", 4: f"known: mailto:{ADA}.", 5: f"known: x{ADA}"}
    attempts = [
        attempt_row(
            RowPosition(1, number),
            attempt(number, event=one, response_body=answers.get(number, "ok"), request_headers=sent_headers(one)),
        )
        for number, one in [(1, ada), (2, grada), (3, shipped), *((number, meta(number)) for number in range(4, 20))]
    ]
    await store.writer.append(Table.EVENTS, 0, events)
    await store.writer.append(Table.ATTEMPTS, 1, attempts)
    letters = [
        letter(1, b"RADA-000001", None),
        letter(2, b"R2", b'\xff{"email":"ada\\u0040shop.example"}'),
        letter(3, None, b"{}"),
        letter(4, b"RADA-0000012", b"{}"),
        letter(5, None, b"{}", detail=f"it says {ADA}"),
    ]
    await store.writer.append(Table.DEAD_LETTERS, 2, letters)
    return store


async def erased(store: Store, subject: Subject) -> PersonData:
    eraser = Eraser(store.connections)
    traces = await eraser.find(subject)
    await eraser.start(traces)

    async def is_done() -> bool:
        return not await eraser.left(traces)

    await until(is_done, "rows are left")
    return traces


async def found(store: Store, **filters: str) -> int:
    query = parse_query((f"q[{name}]", value) for name, value in filters.items())
    return (await store.search.attempts(query)).total_count


async def test_by_email_the_persons_data_and_nothing_else_is_erased(filled: Store) -> None:
    assert await found(filled, request_body_cont=ADA) == 2
    assert await found(filled, order_number_eq="RADA-000001") == 2
    before = await filled.rows("SELECT hour, endpoint_id, attempts FROM attempt_figures ORDER BY ALL")
    others = "SELECT * FROM {} WHERE kafka_offset NOT IN ({}) ORDER BY kafka_offset"
    rest = [others.format("events", "1, 3"), others.format("attempts", "1, 3, 4"), others.format("dead_letters", "1, 2, 3, 5")]
    untouched = [await filled.rows(query) for query in rest]

    traces = await erased(filled, Subject(email="ADA@shop.example"))

    assert (sorted(traces.events), traces.orders) == (["evt_1", "evt_3"], ("RADA-000001",))
    assert (traces.attempts, traces.answers) == ((attempt_id(1, 1), attempt_id(1, 3)), (attempt_id(1, 4),))
    assert traces.dead_letters == tuple(offset * MAX_PARTITIONS + 2 for offset in (1, 2, 3, 5))
    assert [await filled.rows(query) for query in rest] == untouched
    assert await found(filled, request_body_cont=ADA) == 1, "Grada's, whose address is a longer one"
    assert await found(filled, order_number_eq="RADA-000001") == 0
    assert await found(filled, shipment_number_in="H3") == 0
    assert await found(filled, subscription_id_eq="S1") == 0
    assert await found(filled, response_body_cont=f"mailto:{ADA}") == 0
    assert await found(filled, response_body_cont="shipped") == 0
    assert await filled.rows("SELECT hour, endpoint_id, attempts FROM attempt_figures ORDER BY ALL") == before, "figures stay"
    assert await found(filled, order_number_eq="R000000004") == 1, "the answer quoted her, but it is somebody else's order"
    for column, table in (("event_key", "events"), ("request_headers['oms-event-key']", "attempts")):
        keys = await filled.rows(f"SELECT {column} FROM {table} WHERE {column} != ''")
        assert (table, keys) == (table, [("oms.orders/3/RADA-0000012",)]), "only Grada's order is still named"
    sent = f"SELECT request_headers FROM attempts WHERE id = {attempt_id(1, 3)}"
    assert await filled.rows(sent) == [({"webhook-id": "evt_3", "oms-event-sequence": "1003"},)]
    # The record that attempts were made stays.
    history = "SELECT event_id, endpoint_id, http_status_code, order_number, error FROM attempts WHERE id = "
    assert await filled.rows(f"{history}{attempt_id(1, 3)}") == [("evt_3", 7, 204, "", "")]
    dead = "SELECT record_key, record_value, headers, detail, reason FROM dead_letters WHERE kafka_offset = 3"
    assert await filled.rows(dead) == [(None, None, [], "erased", "not_json")]


async def test_by_order_number_the_order_and_answers_that_quote_it_are_found(filled: Store) -> None:
    traces = await erased(filled, Subject(order_number="RADA-000001"))

    assert sorted(traces.events) == ["evt_1", "evt_3"]
    assert traces.dead_letters == (1 * MAX_PARTITIONS + 2,)
    assert await found(filled, order_number_eq="RADA-000001") == 0
    assert await found(filled, order_number_eq="RADA-0000012") == 1


@pytest.mark.parametrize("encoder", ALL_ENCODERS)
async def test_an_address_is_found_whatever_encoder_wrote_it(store: Store, encoder: str) -> None:
    encode, address = ALL_ENCODERS[encoder], "O'Brien+News@MÜLLER.example"
    bodies = [encode({"email": one}).encode() for one in (address, f"a{address}", f"{address}.org")]
    events = [
        event_row(RowPosition(0, number), dispatch(number, event=meta(number, order_number=None)), body)
        for number, body in enumerate(bodies)
    ]
    answers = [attempt_row(RowPosition(0, 9), attempt(9, response_body=encode({"known": address})))]
    await store.writer.append(Table.EVENTS, 0, events)
    await store.writer.append(Table.ATTEMPTS, 0, answers)

    traces = await erased(store, Subject(email="o'brien+news@müller.example"))

    assert (traces.events, traces.attempts, traces.answers) == (("evt_0",), (), (attempt_id(0, 9),))
    left = "SELECT request_body, request_body_strings FROM events WHERE event_id = 'evt_0'"
    assert await store.rows(left) == [("", "")]


async def test_the_event_key_is_erased_because_it_contains_the_order_number(filled: Store) -> None:
    keys = "SELECT event_key FROM events WHERE event_key != '' ORDER BY kafka_offset"
    headers = "SELECT request_headers FROM attempts WHERE kafka_offset IN (1, 2) ORDER BY kafka_offset"
    key, other = "oms.orders/3/RADA-000001", "oms.orders/3/RADA-0000012"
    assert await filled.rows(keys) == [(key,), (other,), (key,)]

    await erased(filled, Subject(email=ADA))

    assert await filled.rows(keys) == [(other,)]
    assert await filled.rows(headers) == [
        ({"webhook-id": "evt_1", "oms-event-sequence": "1001"},),
        ({"webhook-id": "evt_2", "oms-event-key": other, "oms-event-sequence": "1002"},),
    ]


async def test_nothing_is_left_for_a_second_run(filled: Store) -> None:
    traces = await erased(filled, Subject(email=ADA))
    eraser = Eraser(filled.connections)

    assert await eraser.find(Subject(email=ADA, orders=traces.orders)) == PersonData(orders=traces.orders)
    statements = await filled.rows("SELECT command FROM system.mutations WHERE database = currentDatabase()")
    assert len(statements) >= 3
    assert not any("ada" in command.lower() for (command,) in statements), "they contain only ids"


async def test_erased_events_cannot_be_resent(filled: Store) -> None:
    await erased(filled, Subject(email=ADA))

    found = await NotificationHistory(filled.connections).of_attempts([attempt_id(1, 1)])
    assert [one.body for one in found.values() if one is not None] == [None]
    detail = await filled.search.attempt(attempt_id(1, 1))
    assert detail is not None
    assert (detail.request_body, detail.response_body, detail.response_headers) == (None, "", ())


async def test_the_recorder_still_knows_its_position(filled: Store) -> None:
    positions = [await filled.writer.assign(table, number) for table, number in ((Table.EVENTS, 0), (Table.ATTEMPTS, 1))]
    await erased(filled, Subject(email=ADA))
    await erased(filled, Subject(order_number="R000000019"))  # the newest

    assert [await filled.writer.assign(table, number) for table, number in ((Table.EVENTS, 0), (Table.ATTEMPTS, 1))] == positions
    await filled.writer.append(Table.ATTEMPTS, 1, attempt_rows(range(10, 22), partition=1))
    assert await filled.rows("SELECT count() FROM attempts WHERE kafka_offset >= 10") == [(12,)], (
        "each once, including the erased one"
    )
    assert await found(filled, order_number_eq="R000000019") == 0


async def test_the_next_run_finds_later_records(filled: Store) -> None:
    first = await erased(filled, Subject(email=ADA))
    late = attempt_row(RowPosition(1, 30), attempt(30, event=event(1, "RADA-000001"), response_body="late"))
    await filled.writer.append(Table.ATTEMPTS, 1, [late])

    [order] = first.orders
    again = await erased(filled, Subject(order_number=order))

    assert again == PersonData(attempts=(attempt_id(1, 30),), orders=(order,))
    assert await found(filled, order_number_eq=order) == 0


async def test_many_weeks_and_many_ids(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.store.erase._IDS_AT_ONCE", 3)
    for week in range(4):
        numbers, received_at = range(week * 5, week * 5 + 5), START + week * timedelta(days=8)
        made = event_rows(numbers, partition=week, text=ADA, received_at=received_at)
        await store.writer.append(Table.EVENTS, week, made)
    assert len((await erased(store, Subject(email=ADA))).events) == 20
    assert await store.rows("SELECT count() FROM events WHERE request_body != ''") == [(0,)]


async def test_a_subject_that_is_not_one_person_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.store.erase.MAX_EVENTS", 3)
    await store.writer.append(Table.EVENTS, 0, event_rows(range(5), text="shop@shop.example"))
    with pytest.raises(StoreRejectedError, match="not one person's"):
        await Eraser(store.connections).find(Subject(email="shop@shop.example"))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the queries of erasers."""
    asked: list[str] = []
    rows = Eraser._rows

    async def counted(eraser: Eraser, statement: str, parameters: BoundValues) -> Rows:
        asked.append(statement)
        return await rows(eraser, statement, parameters)

    monkeypatch.setattr(Eraser, "_rows", counted)
    return asked


async def test_a_subject_that_is_not_one_person_is_refused_after_the_first_week(
    store: Store, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.erase.MAX_EVENTS", 3)
    for week in range(4):
        numbers, received_at = range(week * 5, week * 5 + 5), START + week * timedelta(days=8)
        made = event_rows(numbers, partition=week, text="shop@shop.example", received_at=received_at)
        await store.writer.append(Table.EVENTS, week, made)
    with pytest.raises(StoreRejectedError, match="More than 3 events are not one person's"):
        await Eraser(store.connections).find(Subject(email="shop@shop.example"))
    assert len(statements) == 2, "the time range of events, and the first week"


async def test_many_events_of_the_first_orders_are_refused_at_once(
    store: Store, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.erase.MAX_EVENTS", 4)
    monkeypatch.setattr("pipeline.store.erase._IDS_AT_ONCE", 1)
    others = [dispatch(number, event=meta(number, order_number="R000000000")) for number in range(3, 6)]
    rows = [event_row(RowPosition(0, number), one, b"{}") for number, one in enumerate(others, 3)]
    await store.writer.append(Table.EVENTS, 0, [*event_rows(range(3), text=ADA), *rows])
    with pytest.raises(StoreRejectedError, match="More than 4 events"):
        await Eraser(store.connections).find(Subject(email=ADA))
    assert len(statements) == 3, "the first of three orders has too many"


async def test_many_answers_about_other_orders_are_refused_but_own_ones_are_not(
    store: Store, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.erase.MAX_QUOTES", 3)
    await store.writer.append(Table.EVENTS, 0, event_rows(range(5), text=ADA))
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(5), response_body=ADA))
    assert len((await Eraser(store.connections).find(Subject(email=ADA))).attempts) == 5

    await store.writer.append(Table.ATTEMPTS, 1, attempt_rows(range(10, 14), partition=1, response_body=ADA))
    statements.clear()
    with pytest.raises(StoreRejectedError, match="More than 3 answers that quote it are not one person's"):
        await Eraser(store.connections).find(Subject(email=ADA))
    assert not [one for one in statements if "dead_letters" in one]


async def test_many_dead_letters_are_refused(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.store.erase.MAX_QUOTES", 3)
    with pytest.raises(StoreRejectedError, match="More than 3 dead letters are not one person's"):
        await Eraser(filled.connections).find(Subject(email=ADA))


async def test_an_empty_database_holds_nothing(store: Store) -> None:
    assert await Eraser(store.connections).find(Subject(email=ADA)) == PersonData()


async def test_a_short_order_number_is_not_searched_for_in_texts(store: Store) -> None:
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, 0), attempt(0, response_body='{"n":"12"}'))])
    assert await Eraser(store.connections).find(Subject(order_number="12")) == PersonData(orders=("12",))


QUOTES: dict[str, bool] = {
    "ada@shop.example": True,
    '{"email":"ada@shop.example"}': True,
    "ada@shop.example.": True,
    "ada@shop.example.au": False,
    "ada@shop.example-x": False,
    "grada@shop.example": False,
    "x.ada@shop.example": False,
    "üada@shop.example": False,
    "\\u003cada@shop.example\\u003e": True,
    "\\u201eada@shop.example\\u201c": True,
    "news\\u002bada@shop.example": False,
    "news%2bada%40shop.example": False,
    "\\u00fcada@shop.example": False,
    "%c3%bcada%40shop.example": False,
    "\\nada\\u0040shop.example\\n": True,
    "?email=ada%40shop.example&x": True,
    "%3Cada%40shop.example%3E".lower(): True,
    "Ada <ada@shop.example>, Bob".lower(): True,
    "ada@shopxexample": False,
}
"""Whether a text quotes the address."""


async def test_boundaries_of_an_address(embedded_store: Store) -> None:
    asked = " OR ".join(f"match(text, {{p{number}:String}})" for number, _ in enumerate(encoded_forms(ADA)))
    values = {"texts": list(QUOTES)} | {f"p{number}": whole_word_pattern(form) for number, form in enumerate(encoded_forms(ADA))}
    query = f"SELECT text, {asked} FROM (SELECT arrayJoin({{texts:Array(String)}}) AS text)"
    result = await embedded_store.connections.read(lambda client: client.query(query, parameters=values).result_rows)
    assert {text: bool(found) for text, found in result} == QUOTES


async def test_the_documented_statement_removes_stored_answers(store: Store) -> None:
    await store.writer.append(
        Table.ATTEMPTS,
        0,
        [
            attempt_row(RowPosition(0, number), attempt(number, endpoint_id=endpoint, response_body="echo of t0ken"))
            for number, endpoint in enumerate((7, 7, 8))
        ],
    )
    text = (Path(__file__).parents[2] / "docs" / "day-two.md").read_text("utf-8")
    statements = re.findall(r'--data-binary "(ALTER TABLE attempts .*|SELECT count\(\) FROM attempts .*)"', text)
    remove, count = (one.replace("$ENDPOINT", "7").replace("2026-03-02 15:00:00", "2099-01-01 00:00:00") for one in statements)
    assert await store.rows(count) == [(2,)]

    cluster = store.settings.clickhouse_cluster
    remove = remove.replace("TABLE attempts", f"TABLE {storage_table('attempts', cluster)}{on_cluster(cluster)}")
    await store.command(f"{remove} SETTINGS mutations_sync = 2")

    assert await store.rows(count) == [(0,)]
    assert await store.rows("SELECT endpoint_id, response_body FROM attempts ORDER BY ALL") == [
        (7, ""),
        (7, ""),
        (8, "echo of t0ken"),
    ]
