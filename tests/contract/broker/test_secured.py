"""Every client with TLS and SASL on a real Apache Kafka: it connects, or says why it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.broker.api import Partition
from pipeline.broker.errors import NoSessionError
from pipeline.ops.settings import Settings
from tests.contract.broker.backends import Heard, RealBackend, read, take_part
from tests.contract.broker.conftest import CLIENTS
from tests.contract.token_endpoint import CLIENT_ID, CLIENT_SECRET, token_endpoint
from tests.secure_kafka import SecureKafka, unsigned_token

pytestmark = [pytest.mark.apache, pytest.mark.timeout(240)]

USER = "webhooks"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    kafka = SecureKafka(tmp_path_factory.mktemp("secured") / "kafka", {USER: "sasl-hunter2"})
    kafka.broker.start()
    yield kafka
    kafka.broker.stop()


def backend(kafka: SecureKafka, client: str, prefix: str, **changed: str) -> RealBackend:
    given = kafka.settings(str(changed.pop("mechanism", "SCRAM-SHA-512")), USER) | {"kafka_client": client} | changed
    return RealBackend(Settings(_env_file=None, kafka_replication_factor=1, **given), prefix, is_embedded=False)  # type: ignore[arg-type]


def goes_round(kafka: RealBackend) -> None:
    """Write, read, and join a group."""
    topic = kafka.topic()
    kafka.write(Partition(topic, 0), b"secured")
    reader = kafka.reader({Partition(topic, 0): 0})
    assert [record.value for record in read(reader, 1)[Partition(topic, 0)]] == [b"secured"]
    heard = Heard()
    take_part([kafka.member(topic, heard)], lambda: len(heard.held) == 1)
    kafka.close()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_a_password_is_accepted(secured: SecureKafka, topic_prefix: str, client: str, mechanism: str) -> None:
    goes_round(backend(secured, client, topic_prefix, mechanism=mechanism))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_token_from_a_file_is_accepted(secured: SecureKafka, topic_prefix: str, client: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(unsigned_token(USER, time.time() - 10, 3_600))
    goes_round(backend(secured, client, topic_prefix, mechanism="OAUTHBEARER", kafka_oauth_token_file=str(path)))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_wrong_password_is_reported(secured: SecureKafka, topic_prefix: str, client: str) -> None:
    broker = backend(secured, client, topic_prefix, kafka_sasl_password="wrong-hunter2").broker()
    for connect in (
        lambda: broker.fetch_client(partition_bytes=1024),
        lambda: broker.producer_client(["any"]),
        lambda: broker.group_client("group", ["any"], Heard()),
    ):
        with pytest.raises(NoSessionError, match=f"refuse the login as {USER}") as told:
            connect()
        assert told.value.needs_operator
        assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_provider_without_a_token_is_reported(secured: SecureKafka, topic_prefix: str, client: str) -> None:
    with token_endpoint() as endpoint:
        given = {"kafka_oauth_client_id": CLIENT_ID, "kafka_oauth_client_secret": f"wrong-{CLIENT_SECRET}"}
        broker = backend(
            secured, client, topic_prefix, mechanism="OAUTHBEARER", kafka_oauth_token_url=endpoint.url, **given
        ).broker()
        with pytest.raises(NoSessionError, match="There is no token") as told:
            broker.fetch_client(partition_bytes=1024)
        assert CLIENT_SECRET not in str(told.value)
