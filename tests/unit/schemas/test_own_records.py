"""Our own records: batches are read like single records, round trips are exact, and additions of newer releases are kept."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw, structs
from msgspec.structs import replace
from multidict import istr

from pipeline.core.exchange import Exchange, Failure, NoResponse, Response, bounded_headers
from pipeline.core.outcome import Delivered, Exhausted, RetryLater, Verdict
from pipeline.delivery.records import attempt_record
from schemas.attempt import Attempt
from schemas.authentication import AuthenticationRecord
from schemas.batch import MAX_BATCH
from schemas.client_certificate import SealedCertificate
from schemas.codec import InvalidRecordError, decode_lines, from_json, to_json
from schemas.delivery import DeliveryRecord, Dispatch, Trigger
from schemas.endpoint import EndpointRecord, HeldDrop, SealedSecret
from schemas.event import EventMeta, EventType
from schemas.event_codec import decode_event
from schemas.operational import OperationalEvent
from schemas.own_records import json_schema
from schemas.signatures import SealedKeyPair, SignatureHeaderRecord
from tests.contract.store_records import START, attempt, dispatch
from tests.unit.delivery.results import result_of
from tests.unit.sample_events import META, NOW, endpoint_record, event_of

FULL = json.loads(to_json(attempt(failure="timeout", error="Too late.", next_attempt_at=START, response_truncated=True)))
DISPATCHED = json.loads(to_json(dispatch(body_bytes=0)))


def alone(lines: bytes, model: type[Attempt | Dispatch]) -> list[Attempt | Dispatch] | str:
    try:
        return [from_json(line, model) for line in lines.rstrip(b"\n").split(b"\n")]
    except InvalidRecordError as error:
        return str(error)


def together(lines: bytes, model: type[Attempt | Dispatch]) -> list[Attempt | Dispatch] | str:
    try:
        return decode_lines(lines.rstrip(b"\n").split(b"\n"), model)
    except InvalidRecordError as error:
        return str(error)


def known(read: list[Attempt | Dispatch] | str) -> list[Attempt | Dispatch] | str:
    """Remove what a newer release says about the event: the recorder has no use for it."""
    return read if isinstance(read, str) else [replace(one, event=replace(one.event, later=UNSET)) for one in read]


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (Response(204, bounded_headers([(istr("Content-Type"), "text/plain")]), b"", False, 1.23456, 1.0), Delivered()),
        (Response(503, (), b"\xff", True, 1.0, 1.0), RetryLater(timedelta(seconds=5))),
        (Response(1000, (), b"x", False, 1.0, 1.0), Exhausted()),
        (NoResponse(Failure.TIMEOUT, "no answer", 15_000.0), RetryLater(timedelta(minutes=1))),
        (NoResponse(Failure.TRUNCATED, "cut off", 15.0, 200, (("a", "b"),), b"x"), Exhausted()),
    ],
    ids=["delivered", "retried", "odd status", "no answer", "half an answer"],
)
def test_the_result_of_an_exchange_survives_a_round_trip(exchange: Exchange, verdict: Verdict) -> None:
    record = attempt_record(result_of(exchange, verdict, attempt=2, trigger=Trigger.RETRY))

    assert from_json(to_json(record), Attempt) == record
    assert decode_lines([to_json(record)], Attempt) == [record]


@pytest.mark.parametrize("event_type", EventType)
def test_the_description_of_an_event_survives_a_round_trip(event_type: EventType) -> None:
    meta = decode_event(event_of(event_type), max_bytes=1 << 20, received_at=NOW).meta

    assert from_json(to_json(meta), EventMeta) == meta


ODD: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "7", "é", "\u2028", "event", "failed", "base64", [], {}, [["a", "b"]], [["a"]], {"a": "b"}, {"a": 1}])
    | st.sampled_from(["2026-03-02T15:04:00Z", "2026-03-02 15:04:00.5+01:00", "2026-03-02T15:04Z", "2026-03-02T15:04:00"])
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1772463840"])
)


def changed(draw: st.DrawFn, record: dict[str, Any]) -> bytes:
    """Return a record with some members changed, left out, or added, also those of its event."""
    more = draw(st.dictionaries(st.sampled_from([*record, "more"]), ODD, max_size=2))
    event = draw(st.dictionaries(st.sampled_from([*record["event"], "more"]), ODD, max_size=2))
    without = draw(st.sets(st.sampled_from([*record]), max_size=2))
    made = {name: value for name, value in (record | {"event": record["event"] | event} | more).items() if name not in without}
    return json.dumps(made, ensure_ascii=draw(st.booleans())).encode()


@st.composite
def attempts_of_any_kind(draw: st.DrawFn) -> bytes:
    return b"\n".join([changed(draw, FULL) for _ in range(draw(st.integers(1, 2)))])


@st.composite
def dispatches_of_any_kind(draw: st.DrawFn) -> bytes:
    return changed(draw, DISPATCHED)


@given(attempts_of_any_kind())
def test_attempts_are_read_alike_alone_and_together(value: bytes) -> None:
    assert known(together(value, Attempt)) == known(alone(value, Attempt))


@given(dispatches_of_any_kind())
def test_dispatches_are_read_alike_alone_and_together(header: bytes) -> None:
    assert known(together(header, Dispatch)) == known(alone(header, Dispatch))


LINE = to_json(attempt())
DELIVERY = DeliveryRecord(event=META, endpoint_id=7, attempt=3, trigger=Trigger.RESEND, parked=2)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\n",
        LINE + b"\n",
        LINE + b"\n\n" + LINE,
        LINE + LINE,
        LINE + b" \r\n" + LINE,
        LINE.replace(b'"attempt":', b'\n"attempt":'),
        LINE[:-1] + b',"x":"\xff"}',
        LINE[:-1] + b',"x":"\\ud800"}',
        LINE[:-1] + b',"x":' + b"[" * 199 + b"]" * 199 + b"}",
        LINE[:-1] + b',"x":' + b"[" * 300 + b"]" * 300 + b"}",
        LINE[:-1] + b',"x":"' + b"y" * 2**21 + b'"}',
        LINE[:-1] + b',"schema_version":2}',
        b"\n".join([LINE] * (MAX_BATCH + 1)),
        b"\n".join([LINE, to_json(attempt(created_at=START.replace(day=4)))]),
    ],
    ids=lambda value: repr(value)[-40:],
)
def test_broken_records_are_refused_with_the_same_words(value: bytes) -> None:
    assert known(together(value, Attempt)) == known(alone(value, Attempt))


ALIEN: list[tuple[bytes, bytes]] = [
    (b'"attempt":3', b'"attempt":' + b"1" * 5000),
    (b'"stock_item_id":null', b'"stock_item_id":' + b"1" * 5000),
    (b'"parked":2', b'"parked":2,"z":' + b"[" * 9000 + b"]" * 9000),
    (b'"parked":2', b'"parked":2,"z":"\xff"'),
    (b'"parked":2', b'"parked":2,"(later)":3'),
    (b'"trigger":"resend"', b'"trigger":"hidden"'),
    (b'"schema_version":1', b'"schema_version":"hidden"'),
]


@pytest.mark.parametrize(("ours", "theirs"), ALIEN, ids=lambda value: repr(value)[-30:])
def test_an_unreadable_delivery_is_refused_without_its_values(ours: bytes, theirs: bytes) -> None:
    value = to_json(DELIVERY).replace(ours, theirs)

    with pytest.raises(InvalidRecordError) as refused:
        from_json(value, DeliveryRecord)

    assert "hidden" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "added",
    [b'"z":' + b"1" * 5000, b'"z":1e999', b'"z":' + b"[" * 900 + b"]" * 900, b'"z":"\\u00e9\\n"'],
    ids=lambda value: repr(value)[:12],
)
def test_additions_of_a_newer_release_are_passed_on_unchanged(added: bytes) -> None:
    value = to_json(DELIVERY)[:-1] + b"," + added + b"}"

    assert to_json(from_json(value, DeliveryRecord)) == value


def test_our_name_for_unknown_members_adds_no_member() -> None:
    value = to_json(DELIVERY)[:-1] + b',"(later)":{"event":3,"a":1}}'

    assert from_json(value, DeliveryRecord) == DELIVERY


class _Narrow:
    """Some releases of msgspec write no integers beyond 64 bits."""

    def encode(self, _: object) -> bytes:
        raise OverflowError


def test_an_id_beyond_64_bits_does_not_prevent_additions_of_a_newer_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.codec._records", _Narrow())
    event = replace(META, stock_item_id=10**30, later={"z": Raw(b"1" * 5000), "y": Raw(b"[1]")})

    written = json.loads(to_json(replace(DELIVERY, event=event)))

    assert written["event"] == json.loads(to_json(META)) | {"stock_item_id": 10**30, "z": None, "y": [1]}


ENDPOINT = endpoint_record(secrets=(SealedSecret(sealed="a"), SealedSecret(sealed="b", expires_at=NOW)))
NESTED = structs.replace(
    ENDPOINT,
    authentication=AuthenticationRecord(type="basic", sealed_secret="c"),
    key_pairs=(SealedKeyPair(sealed="d", public_key="e"),),
    signature_header=SignatureHeaderRecord(name="X-Signature"),
    client_certificate=SealedCertificate(sealed="f", subject="CN=oms", expires_at=NOW, fingerprint="00"),
    drops=(HeldDrop(partition=1, below=2, until=NOW, dropped_by="ada", dropped_at=NOW),),
)
ADDED = b'"z":{"a":[1.10,null]}'


@pytest.mark.parametrize(
    "end",
    [
        b'"sealed":"a","expires_at":null',
        b'"expires_at":"2026-03-02T15:04:00.512000Z"',
        b'"client_auth_method":"client_secret_basic"',
        b'"public_key":"e","expires_at":null',
        b'"sealed_secret":null',
        b'"fingerprint":"00"',
        b'"dropped_at":"2026-03-02T15:04:00.512000Z"',
    ],
)
def test_additions_of_a_newer_release_inside_an_endpoint_survive_a_change(end: bytes) -> None:
    value = to_json(NESTED).replace(end + b"}", end + b"," + ADDED + b"}")
    assert value.count(ADDED) == 1

    changed = structs.replace(from_json(value, EndpointRecord), description="changed")

    assert to_json(changed) == value.replace(b'"description":""', b'"description":"changed"')
    assert to_json(from_json(to_json(changed), EndpointRecord)) == to_json(changed)


def test_additions_of_a_newer_release_stay_with_their_record() -> None:
    value = to_json(ENDPOINT).replace(b'"sealed":"a"', b'"sealed":"a",' + ADDED)
    newest, _ = from_json(value, EndpointRecord).secrets

    resealed = structs.replace(ENDPOINT, secrets=(structs.replace(newest, sealed="x"),))

    assert json.loads(to_json(resealed))["secrets"] == [{"sealed": "x", "expires_at": None, "z": {"a": [1.1, None]}}]


def test_our_name_for_unknown_members_adds_no_member_inside_a_record() -> None:
    value = to_json(ENDPOINT).replace(b'"sealed":"a"', b'"sealed":"a","(later)":{"sealed":1}')

    assert from_json(value, EndpointRecord) == ENDPOINT


def test_an_endpoint_with_a_huge_number_is_written_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    value = to_json(NESTED).replace(b'"filters":{}', b'"filters":{"data.x":[1000000000000000000000000000000]}')
    value = value.replace(b'"public_key":"e","expires_at":null', b'"public_key":"e","expires_at":null,' + ADDED)
    read = from_json(value, EndpointRecord)
    monkeypatch.setattr("schemas.codec._records", _Narrow())

    assert json.loads(to_json(read)) == json.loads(value)


def test_the_schema_of_an_endpoint_is_complete_and_without_our_internal_name() -> None:
    schema = json_schema(EndpointRecord)

    assert schema["properties"]["secrets"]["items"]["required"] == ["sealed"]
    assert schema["properties"]["schema_version"]["enum"] == [1, 2]
    assert "$ref" not in json.dumps(schema)
    assert "(later)" not in json.dumps(schema)


# --- operational events ---

DISABLED = (
    b'{"id":7,"target_url":"https://a","description":"","reason":"gone","detail":"Gone.","disabled_at":"2026-03-02T15:04:00Z"}'
)
NOTICE = b'{"id":7,"target_url":"https://a","description":"","detail":"It fails."}'


def operational(event_name: str, data: bytes) -> bytes:
    head = {"schema_version": 1, "id": "e_7", "event_name": event_name, "occurred_at": "2026-03-02T15:04:00Z"}
    return json.dumps(head).encode()[:-1] + b',"data":' + data + b"}"


@pytest.mark.parametrize(("name", "data"), [("endpoint.disabled", DISABLED), ("endpoint.failing", NOTICE)])
def test_the_data_of_an_operational_event_keeps_its_bytes(name: str, data: bytes) -> None:
    data = data[:-1] + b' , "added" : 1.10}'

    read = from_json(operational(name, data), OperationalEvent)

    assert bytes(read.data) == data
    assert read.notice.id == 7


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("endpoint.disabled", NOTICE, "the data are not those of endpoint.disabled."),
        ("endpoint.failing", DISABLED, "the data are not those of endpoint.failing."),
        ("endpoint.failing", b"{}", "data: id: Field required."),
        ("endpoint.failing", b"null", "data: Expected `object`, got `null`."),
        ("endpoint.failing", NOTICE.replace(b"7", b'"hidden"'), "data: id: Expected `int`, got `str`."),
        ("endpoint.hidden", NOTICE, "event_name: Invalid enum value."),
        ("endpoint.failing", NOTICE.replace(b"https://a", b"\\ud800hidden"), ""),
    ],
)
def test_an_operational_event_with_invalid_data_is_refused_without_its_values(name: str, data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRecordError) as refused:
        from_json(operational(name, data), OperationalEvent)

    assert "hidden" not in str(refused.value)
    assert str(refused.value).startswith(sentence)


def test_an_operational_event_cannot_be_created_with_invalid_data() -> None:
    with pytest.raises(ValueError, match=r"not those of endpoint\.failing"):
        OperationalEvent(id="e", event_name="endpoint.failing", occurred_at=NOW, data=Raw(DISABLED))


@pytest.mark.parametrize("part", [b"[", b'{"a":'], ids=["lists", "objects"])
def test_deeply_nested_values_inside_a_record_are_refused_or_kept_at_every_depth(part: bytes) -> None:
    value = to_json(NESTED)
    ends = {b"[": (b"", b"]"), b'{"a":': (b"1", b"}")}
    middle, end = ends[part]

    def outcome(depth: int) -> str:
        nested = value.replace(b'"sealed_secret":"c"', b'"sealed_secret":"c","z":' + part * depth + middle + end * depth)
        try:
            return "kept" if to_json(from_json(nested, EndpointRecord)).count(part) >= depth else "lost"
        except InvalidRecordError:
            return "refused"

    outcomes = {outcome(depth) for depth in range(700, 1000)}

    assert outcomes == {"kept", "refused"}
