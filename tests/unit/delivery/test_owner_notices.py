"""What the owner of an endpoint is notified of: failure, recovery, and the expiry of secrets and certificates."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from pipeline.broker.errors import PublishError
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.core.signing import new_secret
from pipeline.delivery.expiry_monitor import ExpiryMonitor
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import Registry
from schemas.client_certificate import SealedCertificate
from schemas.codec import to_json
from schemas.endpoint import SealedSecret
from schemas.operational import OPERATIONAL_NAMES
from tests.unit.delivery.delivery_case import NO_ANSWER, OLD_SECRET, SECRET, TOPICS, VAULT, Scene, answer, endpoint
from tests.unit.delivery.test_endpoint_health_monitor import attempted
from tests.unit.fake_kafka import record, settle
from tests.unit.sample_events import NOW, endpoint_record

HOUR = timedelta(hours=1)
WILL_BE = "endpoint.will_be_disabled"


async def failing_for(scene: Scene, *hours: float) -> None:
    """Make failing attempts, each this many hours after the first one."""
    for number in hours:
        scene.now = NOW + number * HOUR
        await attempted(scene, NO_ANSWER)


def names(scene: Scene) -> list[str]:
    return [name if data.percent is None else f"{name} {data.percent}" for name, data in scene.notices()]


async def test_the_owner_is_notified_after_an_hour_and_at_50_75_and_90_percent_of_the_days() -> None:
    scene = Scene(report_every_seconds=0.0)
    for hours in (0, 0.5, 1, 2, 59, 60, 61, 90, 91, 108, 110):
        await failing_for(scene, hours)
        await settle()

    assert names(scene) == ["endpoint.failing", f"{WILL_BE} 50", f"{WILL_BE} 75", f"{WILL_BE} 90"]
    _, failing = scene.notices()[0]
    assert (failing.id, failing.failing_since, failing.will_be_disabled_at) == (7, NOW, NOW + timedelta(days=5))
    assert failing.detail == (
        "The endpoint has been failing since 2026-03-02 15:04 UTC, without any success. It will be disabled at 2026-03-07 15:04 UTC if nothing "
        "succeeds by then."
    )


async def test_concurrent_failures_notify_once_and_a_short_failure_notifies_nobody() -> None:
    scene = Scene()
    await failing_for(scene, 0, *([2.0] * 20))
    assert names(scene) == ["endpoint.failing"]

    brief = Scene()
    await failing_for(brief, 0, 0.5)
    await attempted(brief, answer(200))
    assert names(brief) == []


async def test_a_restarted_process_does_not_notify_again() -> None:
    before, after = Scene(report_every_seconds=0.0), Scene()
    await failing_for(before, 0, 2)
    await settle()
    after.producer.sent += before.producer.to(TOPICS.endpoint_health)
    after.read_health()

    await failing_for(after, 3)
    assert names(after) == []
    await failing_for(after, 61)
    assert names(after) == [f"{WILL_BE} 50"]


async def test_an_event_that_is_sent_again_has_the_same_id() -> None:
    one, other = Scene(), Scene()
    await failing_for(one, 0)
    other.producer.sent += one.producer.to(TOPICS.endpoint_health)
    other.read_health()
    await failing_for(one, 61)
    await failing_for(other, 62)

    assert [event.id for event in one.events()] == [event.id for event in other.events()]
    assert one.events()[1].id == "endpoint-will-be-disabled_7_50_1772463840512"


async def test_the_owner_is_notified_of_a_recovery_only_after_a_notice_of_the_failure() -> None:
    scene = Scene(report_every_seconds=0.0)
    await failing_for(scene, 0, 2)
    scene.now = NOW + 3 * HOUR
    for _ in range(5):
        await attempted(scene, answer(200))

    assert names(scene) == ["endpoint.failing", "endpoint.recovered"]
    _, recovered = scene.notices()[1]
    assert (recovered.failing_since, recovered.recovered_at) == (NOW, NOW + 3 * HOUR)
    assert scene.health.failing_since(endpoint().record) is None

    await failing_for(scene, 4, 6)
    assert names(scene)[2:] == ["endpoint.failing"], "it is another failure"


async def test_an_uncertain_clock_notifies_nobody() -> None:
    scene = Scene()
    scene.health_monitor._is_time_certain = lambda: False
    await failing_for(scene, 0, 61)

    assert names(scene) == []


# --- a secret that expires ---


def expiry_monitor(scene: Scene) -> ExpiryMonitor:
    registry = Registry(MemoryBroker(), TOPICS.endpoints, VAULT, health=scene.health)
    secrets = (SealedSecret(sealed=VAULT.seal(SECRET)), SealedSecret(sealed=VAULT.seal(OLD_SECRET), expires_at=NOW + 24 * HOUR))
    value = to_json(endpoint_record(secrets=secrets))
    registry._apply([record(value, topic=TOPICS.endpoints, key=b"7", partition=0)])
    return ExpiryMonitor(registry, scene.producer, TOPICS.endpoint_health, scene.health_monitor.notices, lambda: scene.now)


async def test_the_owner_is_notified_once_before_a_former_secret_expires() -> None:
    scene = Scene()
    monitor = expiry_monitor(scene)
    for hours in (0, 19, 20.5, 21, 23, 25):
        scene.now = NOW + hours * HOUR
        await monitor.check()

    [(name, data)] = scene.notices()
    assert (name, data.expires_at) == ("endpoint.secret_expiring", NOW + 24 * HOUR)

    scene.read_health()
    scene.now = NOW + 22 * HOUR
    await expiry_monitor(scene).check()
    assert len(scene.notices()) == 1, "another process knows"


async def test_the_owner_is_notified_of_a_secret_that_expires_before_the_reported_one() -> None:
    scene = Scene()
    monitor = expiry_monitor(scene)
    scene.now = NOW + 21 * HOUR
    await monitor.check()
    scene.read_health()
    secrets = tuple(
        SealedSecret(sealed=VAULT.seal(secret), expires_at=ends)
        for secret, ends in ((new_secret(), None), (SECRET, NOW + 22 * HOUR), (OLD_SECRET, NOW + 24 * HOUR))
    )
    rotated = to_json(endpoint_record(version=2, secrets=secrets))
    monitor._registry._apply([record(rotated, topic=TOPICS.endpoints, key=b"7", partition=0)])

    for hours in (21.1, 21.5, 23):
        scene.now = NOW + hours * HOUR
        await monitor.check()

    assert [data.expires_at for _, data in scene.notices()] == [NOW + 24 * HOUR, NOW + 22 * HOUR]


@pytest.mark.parametrize("error", [PublishError("Kafka refuses it"), ZeroDivisionError()], ids=["refused", "a bug"])
async def test_a_failure_for_one_endpoint_does_not_prevent_notices_to_other_owners(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    monitor, tell = expiry_monitor(scene), scene.health_monitor.notices.secret_expiring
    secrets = (SealedSecret(sealed=VAULT.seal(SECRET), expires_at=NOW + 24 * HOUR),)
    monitor._registry._apply(
        [record(to_json(endpoint_record(6, secrets=secrets)), topic=TOPICS.endpoints, key=b"6", partition=0)]
    )
    scene.now = NOW + 21 * HOUR

    async def fail_for_one(endpoint: Endpoint, expires_at: datetime) -> None:
        if endpoint.id == 6:
            raise error
        await tell(endpoint, expires_at)

    monkeypatch.setattr(scene.health_monitor.notices, "secret_expiring", fail_for_one)
    with capture_logs() as logs:
        await monitor.check()

    assert [(name, data.id) for name, data in scene.notices()] == [("endpoint.secret_expiring", 7)]
    [line] = [line for line in logs if line["log_level"] == "error"]
    assert (line["endpoint_id"], line["endpoints"]) == (6, 1)
    assert line["exc_info"] is (None if isinstance(error, PublishError) else error)

    monkeypatch.undo()
    await monitor.check()
    assert [data.id for _, data in scene.notices()] == [7, 6], "it is tried again"


async def test_a_failed_check_does_not_stop_the_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.delivery.expiry_monitor.CHECK_SECONDS", 0.001)
    scene, looks = Scene(), asyncio.Queue[None]()
    monitor = expiry_monitor(scene)

    async def fail() -> None:
        looks.put_nowait(None)
        raise ZeroDivisionError

    monkeypatch.setattr(monitor, "check", fail)
    monitor.start()
    for _ in range(2):
        await asyncio.wait_for(looks.get(), 60)
    await monitor.stop()


# --- a client certificate that expires ---


def certificate_monitor(scene: Scene, expires_at: datetime) -> ExpiryMonitor:
    registry = Registry(MemoryBroker(), TOPICS.endpoints, VAULT, health=scene.health)
    certificate = SealedCertificate(sealed="", subject="CN=oms", expires_at=expires_at, fingerprint="00" * 32)
    value = to_json(replace(endpoint_record(), client_certificate=certificate))
    registry._apply([record(value, topic=TOPICS.endpoints, key=b"7", partition=0)])
    return ExpiryMonitor(registry, scene.producer, TOPICS.endpoint_health, scene.health_monitor.notices, lambda: scene.now)


async def test_the_owner_is_notified_30_7_and_1_days_before_a_client_certificate_expires() -> None:
    scene, end = Scene(), NOW + timedelta(days=40)
    monitor = certificate_monitor(scene, end)
    for days in (0, 9, 10.5, 20, 33, 35, 39, 39.5, 41):
        scene.now = NOW + timedelta(days=days)
        await monitor.check()
        if days == 20:  # another process takes over, and knows
            scene.read_health()
            monitor = certificate_monitor(scene, end)

    assert [(name, data.days, data.expires_at) for name, data in scene.notices()] == [
        ("endpoint.certificate_expiring", days, end) for days in (30, 7, 1)
    ]
    assert "within one day" in scene.notices()[-1][1].detail
    assert len({event.id for event in scene.events()}) == 3

    scene.read_health()
    renewed = NOW + timedelta(days=71)
    await certificate_monitor(scene, renewed).check()
    assert scene.notices()[-1][1].expires_at == renewed, "a new certificate is reported again"


async def test_an_expired_certificate_is_not_reported() -> None:
    scene = Scene()
    await certificate_monitor(scene, NOW - HOUR).check()
    assert scene.notices() == []


def test_the_built_in_receiver_gets_every_operational_event() -> None:
    assert set(OPERATIONAL_NAMES) >= {
        "endpoint.disabled",
        "endpoint.failing",
        "endpoint.recovered",
        WILL_BE,
        "endpoint.secret_expiring",
    }
