"""The health table, and what the registry makes of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace
from pydantic import SecretStr

from pipeline.broker.memory.broker import MemoryBroker
from pipeline.core.exchange import Response
from pipeline.endpoints.health import HealthTable, HeldSummary
from pipeline.endpoints.operational_endpoint import operational_endpoint
from pipeline.endpoints.registry import Registry, state_of
from pipeline.endpoints.subscriptions import MatchInput
from pipeline.ops import metrics
from pipeline.ops.settings import Settings
from schemas.codec import to_json
from schemas.endpoint import EndpointRecord, HeldDrop, SealedSecret
from schemas.health import HealthFact, HealthRecord
from tests.unit.endpoints.registry_case import TOPIC, VAULT, change
from tests.unit.fake_kafka import record
from tests.unit.sample_events import NOW, disabled, endpoint_record, held_fact

HEALTH = "webhooks.endpoint-health"
SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="


class Scene:
    """A registry with a health table."""

    def __init__(self, *endpoints: EndpointRecord) -> None:
        self.health = HealthTable(MemoryBroker(), HEALTH)
        self.registry = Registry(MemoryBroker(), TOPIC, VAULT, health=self.health)
        self.change(*endpoints)
        self._end = 0

    def change(self, *endpoints: EndpointRecord) -> None:
        self.registry._apply(map(change, endpoints))

    def learn(self, *facts: HealthRecord) -> None:
        for fact in facts:
            self.health.apply([record(to_json(fact), topic=HEALTH, key=fact.key, offset=self._end)])
            self._end += 1

    def matching(self) -> list[int]:
        return [endpoint.id for endpoint in self.registry.matching(MatchInput("order_completed", dict))]

    def state(self, endpoint_id: int = 7) -> str:
        endpoint = self.registry.get(endpoint_id)
        assert endpoint is not None
        return state_of(endpoint)


def registered(endpoint_id: int = 7, *, version: int = 1, activated_version: int = 1, active: bool = True) -> EndpointRecord:
    secrets = (SealedSecret(sealed=VAULT.seal(SECRET)),)
    made = endpoint_record(endpoint_id, version=version, active=active, secrets=secrets)
    return replace(made, activated_version=activated_version)


def test_a_disabled_endpoint_is_not_active_and_says_so() -> None:
    scene = Scene(registered(7), registered(8))

    scene.learn(disabled(7))

    assert scene.matching() == [7, 8]
    endpoint = scene.registry.get(7)
    assert endpoint is not None
    assert (endpoint.active, scene.state(7), scene.state(8)) == (False, "disabled", "active")
    assert endpoint.disabled == disabled(7)
    assert metrics.ENDPOINTS.labels("disabled")._value.get() == 1


def test_the_topics_may_be_read_in_any_order() -> None:
    scene = Scene()
    scene.learn(disabled(7))

    scene.change(registered(7))

    assert (scene.matching(), scene.state()) == ([7], "disabled")


def test_an_activation_enables_it_again() -> None:
    scene = Scene(registered(7))
    scene.learn(disabled(7))

    scene.change(registered(7, version=2, activated_version=2))

    assert (scene.matching(), scene.state()) == ([7], "active")


def test_a_change_that_is_no_activation_does_not_enable_it() -> None:
    scene = Scene(registered(7))
    scene.learn(disabled(7))

    scene.change(registered(7, version=2))

    assert (scene.matching(), scene.state()) == ([7], "disabled")


def test_a_fact_from_before_an_activation_is_ignored() -> None:
    scene = Scene(registered(7, version=2, activated_version=2))

    scene.learn(disabled(7, endpoint_version=1))

    assert (scene.matching(), scene.state()) == ([7], "active")


def test_a_paused_endpoint_stays_paused_when_it_is_disabled() -> None:
    scene = Scene(registered(7, active=False))

    scene.learn(disabled(7))

    assert scene.state() == "paused"


def test_facts_are_independent() -> None:
    scene = Scene(registered(7))
    record_of_7 = registered(7)
    scene.learn(
        disabled(7),
        HealthRecord(fact=HealthFact.FAILING, since=NOW, endpoint_id=7, endpoint_version=1, at=NOW),
        HealthRecord(
            fact=HealthFact.CIRCUIT,
            circuit="open",
            until=NOW + timedelta(minutes=1),
            endpoint_id=7,
            endpoint_version=1,
            at=NOW,
        ),
    )

    assert scene.health.failing_since(record_of_7) == NOW
    assert scene.health.circuit(record_of_7, NOW) == "open"
    assert scene.health.disabled(record_of_7) is not None
    written = {HealthFact.FAILING: 1, HealthFact.CIRCUIT: 2, HealthFact.DISABLED: 0}
    assert {fact: scene.health.offset(7, fact) for fact in HealthFact} == dict.fromkeys(HealthFact, -1) | written
    assert scene.health.offset(8, HealthFact.FAILING) == -1


def test_the_held_count_is_the_sum_of_its_partitions_for_any_version_of_the_endpoint() -> None:
    scene = Scene(registered(7, version=9, activated_version=9), registered(8))

    scene.learn(
        held_fact(7, 3, partition=0), held_fact(7, 4, minutes=5), held_fact(8, 1, partition=1), held_fact(7, 2, partition=0)
    )

    held = scene.health.held(7)
    assert (held.count, held.since) == (6, NOW - timedelta(minutes=5))
    assert set(scene.health.held_in(0)) == {7}
    scene.learn(held_fact(7, 0, partition=0), held_fact(7, 0))
    assert scene.health.held(7) == HeldSummary()
    assert not scene.health.knows(7), "a paused endpoint is not one in trouble"


@pytest.mark.parametrize(
    ("below", "until", "left"),
    [(5_000, NOW, 4), (4_999, NOW, 7), (5_000, NOW - timedelta(seconds=1), 7)],
    ids=["all of a partition", "some came later", "of a topic that was recreated"],
)
def test_dropped_deliveries_no_longer_count_as_held(below: int, until: datetime, left: int) -> None:
    drop = HeldDrop(partition=0, below=below, until=until, dropped_by="ada", dropped_at=NOW)
    endpoint = replace(registered(7), drops=(drop,))
    scene = Scene(endpoint)
    scene.learn(held_fact(7, 3, partition=0), held_fact(7, 4))

    found = scene.registry.get(7)
    assert found is not None
    assert scene.registry.held(found).count == left


@pytest.mark.parametrize("value", [b"{", b"{}", b'{"schema_version":2}', b"\xff", None])
def test_an_unusable_record_is_skipped(value: bytes | None) -> None:
    scene = Scene(registered(7))

    scene.health.apply([record(value, topic=HEALTH, offset=1), record(to_json(disabled(7)), offset=2)])

    assert scene.state() == "disabled"


def test_a_fact_about_an_unknown_endpoint_is_harmless() -> None:
    scene = Scene(registered(7))

    scene.learn(disabled(99))

    assert scene.matching() == [7]


def test_the_built_in_receiver_is_found_and_not_listed() -> None:
    settings = Settings(_env_file=None, operational_url="https://ops.example.com/", operational_secret=SecretStr(SECRET))
    registry = Registry(MemoryBroker(), TOPIC, VAULT, operational=operational_endpoint(settings))

    receiver = registry.receiver(0)

    assert receiver is not None
    assert (receiver.target_url, receiver.active, len(receiver.keys(NOW))) == ("https://ops.example.com/", True, 1)
    assert SECRET[6:] not in repr(receiver)
    echo = Response(500, (), SECRET.encode(), body_truncated=False, duration_ms=1.0, first_byte_ms=1.0)
    assert receiver.redactor.redact(echo).body == b"whsec_[redacted]"
    assert registry.get(0) is None
    assert registry.all() == []
    assert registry.by_url("https://ops.example.com/") is None
    assert registry.matching(MatchInput("endpoint.disabled", dict)) == []


def test_without_a_url_there_is_no_built_in_receiver() -> None:
    assert operational_endpoint(Settings(_env_file=None)) is None
    assert Registry(MemoryBroker(), TOPIC, VAULT).receiver(0) is None
