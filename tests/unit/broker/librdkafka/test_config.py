"""The settings as librdkafka's configuration. The library refuses names that it does not know, and accepts every one of these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from confluent_kafka import Consumer, Producer

from pipeline.broker.factory import MissingClientError, open_broker
from pipeline.broker.kafka.broker import KafkaBroker
from pipeline.broker.librdkafka.broker import LibrdkafkaBroker
from pipeline.broker.librdkafka.config import member_config, producer_config, reader_config
from pipeline.ops.settings import Settings

PASSWORD = "hunter2"


def settings(**more: Any) -> Settings:
    return Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1, 127.0.0.1:2", kafka_client="librdkafka", **more)


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Any]:
    authority = trustme.CA()
    certificate = authority.issue_cert("client")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "client.key")
    return {
        "kafka_ssl_cafile": tmp_path / "ca.pem",
        "kafka_ssl_certfile": tmp_path / "client.pem",
        "kafka_ssl_keyfile": tmp_path / "client.key",
    }


def test_plain() -> None:
    reader = accepted(settings())
    assert reader["bootstrap.servers"] == "127.0.0.1:1,127.0.0.1:2"
    assert reader["auto.offset.reset"] == "error"
    assert reader["enable.auto.commit"] is False


def test_tls(tls: dict[str, Any]) -> None:
    config = accepted(settings(kafka_security_protocol="SSL", **tls))
    assert config["ssl.ca.location"] == str(tls["kafka_ssl_cafile"])
    assert config["ssl.certificate.location"] == str(tls["kafka_ssl_certfile"])
    assert config["ssl.key.location"] == str(tls["kafka_ssl_keyfile"])


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_login(mechanism: str) -> None:
    login = {"kafka_sasl_username": "oms", "kafka_sasl_password": PASSWORD}
    config = accepted(settings(kafka_security_protocol="SASL_PLAINTEXT", kafka_sasl_mechanism=mechanism, **login))
    assert (config["sasl.mechanism"], config["sasl.username"], config["sasl.password"]) == (mechanism, "oms", PASSWORD)


def test_a_token(tmp_path: Path) -> None:
    """It takes three seconds: with tokens, librdkafka needs one to create a client."""
    (tmp_path / "token").write_text("a.b.c\n")
    chosen = settings(
        kafka_security_protocol="SASL_PLAINTEXT", kafka_sasl_mechanism="OAUTHBEARER", kafka_oauth_token_file=tmp_path / "token"
    )
    tokens = accepted(chosen)["oauth_cb"]
    assert tokens("")[0] == "a.b.c"
    (tmp_path / "token").unlink()
    assert tokens("")[0] == "a.b.c", "the last one, until there is another"
    (tmp_path / "token").write_text("d.e.f")
    assert tokens("")[0] == "d.e.f"


def test_the_producer_is_durable() -> None:
    config = producer_config(settings())
    assert (config["acks"], config["enable.idempotence"]) == ("all", True)
    assert config["partitioner"] == "murmur2_random"


def test_a_member_has_a_static_name_only_if_one_is_given() -> None:
    assert "group.instance.id" not in member_config(settings(), "group", None)
    assert member_config(settings(), "group", "host-0")["group.instance.id"] == "host-0"


def accepted(chosen: Settings) -> dict[str, Any]:
    """Create every client; none needs a broker for that. Return the reader's configuration."""
    reader = reader_config(chosen, partition_bytes=64 * 1024, read_committed=True)
    for config in (reader, member_config(chosen, "group", "host-0")):
        Consumer(config).close()
    Producer(producer_config(chosen)).close()
    return reader


def test_the_setting_selects_the_client() -> None:
    assert isinstance(open_broker(settings()), LibrdkafkaBroker)
    assert isinstance(open_broker(settings().model_copy(update={"kafka_client": "kafka-python"})), KafkaBroker)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys  # noqa: PLC0415

    for name in [name for name in sys.modules if name.startswith("pipeline.broker.librdkafka")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingClientError, match=r"pip install 'oms-webhooks\[librdkafka\]'") as raised:
        open_broker(settings())
    assert raised.value.needs_operator
