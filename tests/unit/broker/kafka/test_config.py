"""Clients that no broker accepts fail soon with a single sentence, and kafka-python's log is not in ours."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from pipeline.broker.errors import NoSessionError
from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.kafka.diagnosis import kafka_findings
from pipeline.broker.kafka.session import no_session
from pipeline.broker.producer import Producer
from pipeline.ops.reachability import CheckResult
from pipeline.ops.settings import Settings

SETTINGS = Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1, 127.0.0.1:2")
CONFIG: dict[str, Any] = {"bootstrap_servers": ["kafka:9092"], "security_protocol": "PLAINTEXT"}
NOBODY = r"^No Kafka broker can be used\. 127\.0\.0\.1:1: .*Connection refused.*; 127\.0\.0\.1:2: .*Connection refused"


def test_without_a_broker_topics_cannot_be_listed() -> None:
    with pytest.raises(NoSessionError, match=NOBODY) as raised:
        KafkaTopicAdmin(SETTINGS)
    assert not raised.value.needs_operator


def test_without_a_broker_nothing_can_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoSessionError, match=NOBODY):
        asyncio.run(Producer(open_broker(SETTINGS), ["oms.orders"]).start())
    assert capfd.readouterr().err == ""


@pytest.fixture
def silent() -> Iterator[str]:
    """A broker that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_hanging_broker_is_given_up_soon(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.broker.kafka.bootstrap._ANSWER_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(NoSessionError, match=r"It accepts connections but does not answer within 0\.2 s"):
        KafkaTopicAdmin(Settings(_env_file=None, kafka_bootstrap_servers=silent))
    assert time.monotonic() - started < 10


def test_the_error_is_reported_when_a_broker_answers_but_accepts_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(**_: Any) -> None:
        raise KafkaTimeoutError("Unable to bootstrap from ['127.0.0.1:1']")

    monkeypatch.setattr("pipeline.broker.kafka.session.reach_brokers", lambda config: config["bootstrap_servers"])
    monkeypatch.setattr("pipeline.broker.kafka.diagnosis.server_finding", lambda *_: CheckResult("Kafka: it listens"))
    monkeypatch.setattr("pipeline.broker.kafka.admin.KafkaAdminClient", give_up)
    *_, last = kafka_findings(SETTINGS)
    assert last.problem is not None
    assert "(KafkaTimeoutError: Unable to bootstrap from ['127.0.0.1:1'])" in last.problem
    assert "settings --check" not in last.problem


def test_brokers_that_are_starting_are_waited_for() -> None:
    error = no_session(CONFIG, ["Bootstrap metadata response has no brokers. Retrying in 0.05 secs."], KafkaTimeoutError("late"))
    assert "is starting" in str(error)
    assert not error.needs_operator


def test_an_unused_password_is_not_called_wrong() -> None:
    config = CONFIG | {"security_protocol": "SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "shop"}
    said = [
        "Bootstrap attempt to bootstrap-0 failed: KafkaConnectionError: The broker closed the connection. (backoff 0.04 secs)"
    ]
    assert "it may require SASL" in str(no_session(config, said, KafkaTimeoutError("late")))


def test_a_missing_permission_needs_an_operator() -> None:
    error = no_session(CONFIG, [], TopicAuthorizationFailedError())
    assert "oms-webhooks grants" in str(error)
    assert error.needs_operator
