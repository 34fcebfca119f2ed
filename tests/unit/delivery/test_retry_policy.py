from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from tests.unit.delivery.delivery_case import VAULT, Scene, answer, delivery_of, endpoint


def with_policy(policy: str) -> Endpoint:
    return open_endpoint(replace(endpoint().record, retry_policy=policy), VAULT)


@pytest.mark.parametrize(
    ("policy", "attempt", "topic"),
    [
        ("standard", 1, "5s"),
        ("10m,1h", 1, "10m"),
        ("10m,1h", 2, "1h"),
        ("10m,1h", 3, None),
        ("10m", 5, None),  # it had more attempts before its policy was changed
        ("6h,6h,6h,6h,6h", 5, "6h"),
        ("of a newer release", 2, "1m"),
    ],
)
async def test_the_endpoints_policy_at_the_time_of_the_attempt_applies(policy: str, attempt: int, topic: str | None) -> None:
    scene = Scene()
    scene.sender.exchange = answer(500)

    await scene.deliver(with_policy(policy), attempt=attempt)

    (made,) = scene.attempts()
    assert made.outcome == ("exhausted" if topic is None else "repeated")
    assert [sent.topic for sent in scene.delayed()] == ([] if topic is None else [f"t.webhooks.delay.{topic}"])
    assert [delivery_of(sent).attempt for sent in scene.delayed()] == ([] if topic is None else [attempt + 1])


async def test_a_delivery_is_parked_by_the_schedule_of_the_deployment() -> None:
    scene = Scene(width=1)
    receiver = with_policy("6h")
    scene.sender.exchange = answer(503, (("Retry-After", "30"),))

    await scene.deliver(receiver)
    await scene.deliver(receiver)

    assert [sent.topic for sent in scene.delayed()] == ["t.webhooks.delay.6h", "t.webhooks.delay.1m"]
