"""A client that no broker lets in ends in one sentence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from pipeline.broker.api import NoSessionError
from pipeline.broker.choice import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.kafka.check import kafka_findings
from pipeline.broker.producer import Producer
from pipeline.ops.reach import Finding
from pipeline.ops.settings import Settings

SETTINGS = Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1, 127.0.0.1:2")
SAID = r"^There is no session with Kafka at 127\.0\.0\.1:1, 127\.0\.0\.1:2 \(.*\); `oms-webhooks settings --check` says why\.$"


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(**_: Any) -> None:
        raise KafkaTimeoutError("Unable to bootstrap from ['127.0.0.1:1']")

    monkeypatch.setattr("pipeline.broker.kafka.admin.KafkaAdminClient", give_up)
    monkeypatch.setattr("pipeline.broker.kafka.producer_client.KafkaProducer", give_up)


def test_topics_cannot_be_asked_for() -> None:
    with pytest.raises(NoSessionError, match=SAID):
        KafkaTopicAdmin(SETTINGS)


def test_nothing_can_be_written() -> None:
    with pytest.raises(NoSessionError, match=SAID):
        asyncio.run(Producer(open_broker(SETTINGS), ["oms.orders"]).start())


def test_the_check_does_not_point_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.broker.kafka.check.server_finding", lambda *_: Finding("Kafka: it listens"))
    monkeypatch.setattr("pipeline.broker.kafka.check.speaks_tls", lambda *_: False)
    *_, last = kafka_findings(SETTINGS)
    assert last.problem is not None
    assert "(KafkaTimeoutError: Unable to bootstrap from ['127.0.0.1:1'])" in last.problem
    assert "settings --check" not in last.problem
