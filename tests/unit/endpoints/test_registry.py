"""What the registry makes of the records in its topic: the latest counts, unusable ones are skipped."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.broker.api import Record
from pipeline.core.signing import new_secret
from pipeline.endpoints.subscriptions import MatchInput
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from schemas.endpoint import EndpointRecord, SealedSecret
from tests.unit.endpoints.registry_case import TOPIC, URL, VAULT, change, errors, registry
from tests.unit.fake_kafka import record
from tests.unit.sample_events import endpoint_record

# --- reading ---


async def test_the_latest_record_of_an_endpoint_counts() -> None:
    endpoints = registry()

    endpoints._apply(
        [
            change(endpoint_record(7)),
            change(endpoint_record(3)),
            change(endpoint_record(7, target_url="https://new.example", version=2)),
        ]
    )

    assert [endpoint.id for endpoint in endpoints.all()] == [3, 7]
    found = endpoints.get(7)
    assert found is not None
    assert (found.target_url, found.record.version) == ("https://new.example", 2)
    assert endpoints.by_url("https://new.example") is found
    assert endpoints.by_url("https://hooks.example.com/unknown") is None
    assert endpoints.get(8) is None


async def test_of_several_endpoints_with_one_url_the_first_in_the_topic_counts() -> None:
    endpoints = registry()

    endpoints._apply([change(endpoint_record(9, target_url=URL)), change(endpoint_record(4, target_url=URL))])
    endpoints._apply([change(endpoint_record(9, target_url=URL, version=2))])

    found = endpoints.by_url(URL)
    assert found is not None
    assert (found.id, found.record.version) == (9, 2)
    assert endpoints.all() == [found]


async def test_a_url_that_an_endpoint_gave_up_is_free() -> None:
    endpoints = registry()
    endpoints._apply([change(endpoint_record(9, target_url=URL)), change(endpoint_record(9, target_url=URL + "/new", version=2))])
    endpoints._apply([change(endpoint_record(4, target_url=URL))])

    assert [(endpoint.id, endpoint.target_url) for endpoint in endpoints.all()] == [(4, URL), (9, URL + "/new")]


async def test_a_late_change_does_not_restore_a_deleted_endpoint() -> None:
    endpoints = registry()
    endpoints._apply([change(endpoint_record(7)), change(endpoint_record(7, deleted=True, version=2))])
    endpoints._apply([change(endpoint_record(7, target_url=URL, version=2))])

    assert endpoints.all() == []


@pytest.mark.parametrize(
    "gone",
    [change(endpoint_record(7, deleted=True, version=2)), record(None, topic=TOPIC, key=b"7")],
    ids=["deleted", "tombstone"],
)
async def test_a_deleted_endpoint_is_gone(gone: Record) -> None:
    endpoints = registry()
    endpoints._apply([change(endpoint_record(7))])

    endpoints._apply([gone])

    assert endpoints.all() == []
    assert endpoints.get(7) is None
    assert endpoints.matching(MatchInput("order_completed", dict)) == []
    endpoints._apply([gone])


async def test_records_that_claim_ids_are_skipped() -> None:
    endpoints, before = registry(), errors()

    endpoints._apply([record(b"{}", topic=TOPIC, key=b"id-claim"), change(endpoint_record(7))])

    assert [endpoint.id for endpoint in endpoints.all()] == [7]
    assert errors() == before


UNUSABLE = {
    "not JSON": record(b"{", topic=TOPIC, key=b"8"),
    "not an object": record(b"[]", topic=TOPIC, key=b"8"),
    "not an endpoint": record(b"{}", topic=TOPIC, key=b"8"),
    "a newer version": record(b'{"schema_version":2}', topic=TOPIC, key=b"8"),
    "a tombstone whose key is no id": record(None, topic=TOPIC, key=b"abc"),
}


@pytest.mark.parametrize("unusable", UNUSABLE.values(), ids=UNUSABLE)
async def test_an_unusable_record_is_skipped_and_counted(unusable: Record) -> None:
    endpoints, before = registry(), errors()

    endpoints._apply([change(endpoint_record(7)), unusable, change(endpoint_record(9))])

    assert [endpoint.id for endpoint in endpoints.all()] == [7, 9]
    assert [endpoint.id for endpoint in endpoints.matching(MatchInput("order_completed", dict))] == [7, 9]
    assert errors() == before + 1


SEALED = (SealedSecret(sealed=VAULT.seal(new_secret())),)
PROBLEMS = {
    "another key's token": endpoint_record(8, secrets=SEALED, sealed_token=Vault(Vault.new_key()).seal("t0ken")),
    "another key's custom header": replace(
        endpoint_record(8, secrets=SEALED), sealed_headers={"x-a": Vault(Vault.new_key()).seal("v")}
    ),
    "another key's secret": endpoint_record(8, secrets=(SealedSecret(sealed=Vault(Vault.new_key()).seal(new_secret())),)),
    "a sealed text that is not ASCII": endpoint_record(8, secrets=SEALED, sealed_token="sealé"),
    "a sealed text that is no signing secret": endpoint_record(8, secrets=(SealedSecret(sealed=VAULT.seal("x")),)),
    "no secret": endpoint_record(8),
}


@pytest.mark.parametrize("unusable", PROBLEMS.values(), ids=PROBLEMS)
async def test_an_endpoint_that_cannot_be_opened_is_kept(unusable: EndpointRecord, capsys: pytest.CaptureFixture[str]) -> None:
    endpoints = registry()
    endpoints.table.is_caught_up = True

    endpoints._apply(map(change, (endpoint_record(7, secrets=SEALED), unusable, endpoint_record(9, secrets=SEALED))))

    assert [endpoint.id for endpoint in endpoints.all()] == [7, 8, 9]
    assert [endpoint.id for endpoint in endpoints.matching(MatchInput("order_completed", dict))] == [7, 8, 9]
    assert [endpoint.problem is None for endpoint in endpoints.all()] == [True, False, True]
    assert endpoints.problem() is None, "the others can be delivered to"
    problem = endpoints.unusable()
    assert problem is not None
    assert problem.startswith("1 endpoint is unusable, so its deliveries wait; endpoint 8: ")
    assert metrics.ENDPOINTS.labels("unusable")._value.get() == 1
    assert metrics.ENDPOINTS.labels("active")._value.get() == 2
    assert problem.partition("endpoint 8: ")[2] in "".join(capsys.readouterr())

    endpoints._apply([change(endpoint_record(8, secrets=SEALED, version=2))])
    assert endpoints.unusable() is None
    assert metrics.ENDPOINTS.labels("unusable")._value.get() == 0


async def test_unread_endpoints_are_a_problem() -> None:
    assert registry().problem() == f"{TOPIC} has not been read to its end yet"


async def test_an_unreadable_record_is_logged_without_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    endpoints = registry()

    endpoints._apply(
        [record(b'{"id":"hidden","target_url":["hidden"],"secrets":[{"sealed":5,"x":"hidden"}]}', topic=TOPIC, key=b"8")]
    )

    written = "".join(capsys.readouterr())
    assert "an endpoint record cannot be used" in written
    assert "hidden" not in written


# --- matching ---


async def test_subscribed_endpoints_match_whether_active_or_not() -> None:
    endpoints = registry()
    endpoints._apply(
        [
            change(endpoint_record(5)),
            change(endpoint_record(2, events=("order_completed", "shipment_shipped"))),
            change(endpoint_record(3, events=("shipment_shipped",))),
            change(endpoint_record(4, active=False)),
            change(endpoint_record(6, events=("from_the_future",))),
        ]
    )

    assert [endpoint.id for endpoint in endpoints.matching(MatchInput("order_completed", dict))] == [2, 4, 5]
    assert [endpoint.id for endpoint in endpoints.matching(MatchInput("shipment_shipped", dict))] == [2, 3]
    assert endpoints.matching(MatchInput("order_cancelled", dict)) == []
    assert [endpoint.id for endpoint in endpoints.all()] == [2, 3, 4, 5, 6]
    paused = endpoints.get(4)
    assert paused is not None
    assert not paused.active


async def test_a_change_of_subscriptions_takes_effect_at_once() -> None:
    endpoints = registry()
    endpoints._apply([change(endpoint_record(5))])

    endpoints._apply([change(endpoint_record(5, events=("shipment_shipped",), version=2))])

    assert endpoints.matching(MatchInput("order_completed", dict)) == []
    assert [endpoint.id for endpoint in endpoints.matching(MatchInput("shipment_shipped", dict))] == [5]


async def test_filters_are_evaluated_and_the_payload_is_parsed_only_for_them() -> None:
    endpoints = registry()
    endpoints._apply([change(endpoint_record(1))])

    def unparsed() -> Any:
        raise AssertionError("no endpoint with filters: the payload must not be parsed")

    assert len(endpoints.matching(MatchInput("order_completed", unparsed))) == 1

    endpoints._apply(
        [change(endpoint_record(2, filters={"channel": ("spree",)})), change(endpoint_record(3, filters={"channel": ("app",)}))]
    )
    assert [endpoint.id for endpoint in endpoints.matching(MatchInput("order_completed", lambda: {"channel": "spree"}))] == [1, 2]


async def test_endpoints_are_counted() -> None:
    endpoints = registry()
    endpoints._apply(
        change(endpoint_record(number, secrets=SEALED, active=active)) for number, active in ((1, True), (2, True), (3, False))
    )
    assert metrics.ENDPOINTS.labels("active")._value.get() == 2
    assert metrics.ENDPOINTS.labels("paused")._value.get() == 1

    endpoints._apply([record(None, topic=TOPIC, key=str(number).encode()) for number in (1, 2, 3)])
    assert metrics.ENDPOINTS.labels("active")._value.get() == 0
    assert metrics.ENDPOINTS.labels("paused")._value.get() == 0
