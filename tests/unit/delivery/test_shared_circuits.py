"""What one process finds out about an endpoint, and what another one makes of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from pipeline.core.circuit import Circuit, CircuitLimits, CircuitState, HealthSign
from pipeline.core.recovery_ramp import RampLimits
from pipeline.delivery.admission import Admission, AdmissionLimits, OtherProcesses
from pipeline.endpoints.endpoint import Endpoint
from schemas.codec import to_json
from schemas.health import HealthFact
from tests.unit.delivery.delivery_case import NO_ANSWER, TOPICS, Scene, answer, endpoint
from tests.unit.fake_kafka import record, settle

LIMITS = CircuitLimits(failures=3, open_seconds=5.0, max_open_seconds=300.0, max_asked_seconds=21_600.0)
TO = endpoint()


class Pair:
    """Two processes, and the topic between them."""

    def __init__(self) -> None:
        self.topic: list[tuple[bytes | None, bytes | None]] = []
        self.one, self.other = self.process(), self.process()

    def process(self) -> Scene:
        scene = Scene(limits=LIMITS, report_every_seconds=0.0)
        scene.delivery_service.admission = Admission(
            scene.limiter,
            AdmissionLimits(LIMITS, 0.01, 100, RampLimits()),
            on_change=scene.health_monitor.circuit_changed,
            clock=lambda: scene.seconds,
            current=lambda _: TO,
            other_processes=OtherProcesses(circuit=scene.health_monitor.reported_circuit),
        )
        scene.health.follow(HealthFact.CIRCUIT, scene.delivery_service.admission.apply_reported_circuits)
        for offset, (key, value) in enumerate(self.topic):
            scene.health.apply([record(value, topic=TOPICS.endpoint_health, key=key, partition=0, offset=offset)])
        return scene

    async def exchange(self, *scenes: Scene) -> None:
        """Let both read what was written since the last time."""
        await settle()
        await settle()
        for scene in (self.one, self.other):
            for sent in scene.producer.to(TOPICS.endpoint_health):
                self.topic.append((sent.key, sent.value))
                offset = len(self.topic) - 1
                for reader in (self.one, self.other, *scenes):
                    written = reader.health_monitor._written_facts.get((TO.id, HealthFact.CIRCUIT))
                    if reader is scene and written is not None and to_json(written.record) == sent.value:
                        written.offset = offset
                    reader.health.apply([record(sent.value, topic=sent.topic, key=sent.key, partition=0, offset=offset)])
            scene.producer.sent.clear()

    def state(self, scene: Scene, to: Endpoint = TO) -> CircuitState:
        return scene.delivery_service.admission._circuits[to.id][1].state

    async def take_down(self) -> None:
        """Take the endpoint down, and let the first process find out."""
        self.one.sender.exchange = self.other.sender.exchange = answer(200)
        await self.other.deliver(TO)
        self.one.sender.exchange = self.other.sender.exchange = NO_ANSWER
        for _ in range(3):
            await self.one.deliver(TO)
        await self.exchange()


async def test_a_process_learns_of_an_open_circuit_and_sends_one_probe_instead_of_many() -> None:
    pair = Pair()
    await pair.take_down()
    assert pair.state(pair.other) is CircuitState.OPEN
    before = len(pair.other.sender.requests)

    for _ in range(20):
        await pair.other.deliver(TO)

    assert len(pair.other.sender.requests) == before + 1
    assert pair.state(pair.other) is CircuitState.OPEN


async def test_a_process_whose_own_network_fails_does_not_affect_the_others() -> None:
    pair = Pair()
    await pair.take_down()
    pair.other.sender.exchange = answer(200)
    before = len(pair.other.sender.requests)

    for _ in range(20):
        await pair.other.deliver(TO)

    assert len(pair.other.sender.requests) == before + 20
    assert pair.other.delivery_service.admission._ramps == {}, "there is no backlog after such a short time"


async def test_a_recovery_is_probed_once_by_a_process_with_an_open_circuit() -> None:
    pair = Pair()
    await pair.take_down()
    await pair.other.deliver(TO)  # its own probe fails
    await pair.exchange()
    pair.one.sender.exchange = pair.other.sender.exchange = answer(200)
    pair.one.seconds += 5.1
    await pair.one.deliver(TO)
    await pair.exchange()
    before = len(pair.other.sender.requests)

    await pair.other.deliver(TO)

    assert len(pair.other.sender.requests) == before + 1, "although its circuit would have been open for longer"
    assert pair.state(pair.other) is CircuitState.CLOSED
    assert TO.id in pair.other.delivery_service.admission._ramps


async def test_a_new_process_starts_with_what_the_others_knew() -> None:
    pair = Pair()
    await pair.take_down()
    third = pair.process()
    third.sender.exchange = NO_ANSWER

    for _ in range(20):
        await third.deliver(TO)
    assert len(third.sender.requests) == 1

    third.sender.exchange = answer(200)
    third.seconds += 10.1
    await third.deliver(TO)
    assert TO.id in third.delivery_service.admission._ramps


async def test_reports_from_before_an_activation_are_ignored() -> None:
    pair = Pair()
    await pair.take_down()
    activated_again = replace(endpoint().record, activated_version=99, version=99)
    fresh = Pair()
    fresh.topic = pair.topic
    third = fresh.process()

    assert third.health_monitor.reported_circuit(TO) is not None
    assert third.health.fact(activated_again, HealthFact.CIRCUIT) is None


def opened(circuit: Circuit, now: float) -> None:
    for _ in range(3):
        permit = circuit.start(now)
        assert permit is not None
        circuit.end(permit, HealthSign.FAILED, now)


def test_after_a_failed_probe_reports_of_recovery_are_ignored_until_the_next_one() -> None:
    circuit = Circuit(LIMITS)
    opened(circuit, 0.0)
    circuit.remote_closed(1.0)
    probe = circuit.start(1.0)
    assert probe is not None
    circuit.end(probe, HealthSign.FAILED, 1.0)

    circuit.remote_closed(2.0)
    assert circuit.start(2.0) is None
    probe = circuit.start(11.5)
    assert probe is not None, "by its own time"
    circuit.end(probe, HealthSign.FAILED, 11.5)
    circuit.remote_closed(12.0)
    assert circuit.start(12.0) is not None


@pytest.mark.parametrize("seconds", [0.0, 60.0, 1e12])
def test_a_circuit_opened_by_a_report_stays_open_as_long_if_its_probe_fails(seconds: float) -> None:
    circuit = Circuit(LIMITS)
    circuit.remote_opened(seconds, 0.0)
    probe = circuit.start(0.0)
    assert probe is not None
    circuit.end(probe, HealthSign.FAILED, 0.0)

    assert circuit.open_for(0.0) == min(max(5.0, seconds), timedelta(hours=6).total_seconds())
