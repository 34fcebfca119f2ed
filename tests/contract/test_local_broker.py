"""What the pipeline relies on in the brokers started on this machine, and in kafka-python with them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from pipeline.devtools import local_process
from pipeline.devtools.local_broker import ApacheKafkaBroker, LocalBroker, TansuBroker
from pipeline.devtools.local_process import BrokerStartError
from tests.ready_pipe import is_readable

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")

PARENT = """
import time
from pipeline.devtools.local_broker import TansuBroker
broker = TansuBroker()
broker.start()
print(broker.pid, flush=True)
time.sleep(60)
"""


def create_topic(bootstrap_servers: str, topic: str, *, configs: dict[str, str] | None = None) -> None:
    options = {"num_partitions": 1, "replication_factor": 1, "configs": configs or {}}
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        admin.create_topics({topic: options}, wait_for_metadata=True)


@pytest.fixture
def topic(bootstrap_servers: str, topic_prefix: str) -> str:
    """Create a topic of one partition."""
    name = f"{topic_prefix}records"
    create_topic(bootstrap_servers, name)
    return name


@pytest.fixture
def producer(bootstrap_servers: str) -> Iterator[KafkaProducer]:
    with closing(KafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=20)) as client:
        yield client


def read(bootstrap_servers: str, topic: str, count: int) -> list[Any]:
    """Read the first `count` records of partition 0; fail if they do not arrive within a minute."""
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers, consumer_timeout_ms=60_000, fetch_max_wait_ms=30)
    with closing(consumer):
        consumer.assign([partition])
        consumer.seek(partition, 0)
        records = list(islice(consumer, count))
        assert len(records) == count
        assert consumer.highwater(partition) == count
    return records


def test_topic_is_created_with_its_configuration(bootstrap_servers: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}table"
    configs = {"cleanup.policy": "compact", "min.compaction.lag.ms": "60000", "max.message.bytes": "16777216"}
    create_topic(bootstrap_servers, topic, configs=configs)

    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        (described,) = admin.describe_topics([topic])
        # "all": the embedded broker does not say which values differ from the defaults.
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")

    assert (described["name"], described["error_code"], len(described["partitions"])) == (topic, 0, 1)
    values = {name: config["value"] for name, config in found["topic"][topic].items()}
    assert values.items() >= configs.items()


def test_records_are_read_as_they_were_sent(bootstrap_servers: str, topic: str, producer: KafkaProducer) -> None:
    headers = [("event", b"order_completed"), ("binary", bytes(range(256))), ("event", b"twice"), ("empty", b"")]
    sent = [(b"R1", b"one", headers), (b"R1", None, []), (None, b"\x00\xff", [("n", b"1")])]
    for key, value, extra in sent:
        producer.send(topic, key=key, value=value, headers=extra, partition=0)
    producer.flush(timeout=60)

    records = read(bootstrap_servers, topic, len(sent))

    assert [(r.offset, r.key, r.value, list(r.headers)) for r in records] == [(i, *s) for i, s in enumerate(sent)]


def test_acknowledged_offsets_are_the_records_offsets(bootstrap_servers: str, topic: str, producer: KafkaProducer) -> None:
    acknowledged = []
    for burst in range(3):  # the records of a burst share a batch, whose acknowledgement has one offset for all
        values = [b"%d.%d" % (burst, n) for n in range(20)]
        futures = [producer.send(topic, value=value, partition=0) for value in values]
        acknowledged += [(f.get(timeout=60).offset, v) for f, v in zip(futures, values, strict=True)]

    assert [offset for offset, _ in acknowledged] == list(range(60))
    assert [(r.offset, r.value) for r in read(bootstrap_servers, topic, 60)] == acknowledged


def test_start_and_stop_can_be_repeated() -> None:
    broker = TansuBroker()
    with pytest.raises(RuntimeError, match="start"):
        _ = broker.bootstrap_servers
    broker.stop()

    first = broker.start()
    pid = broker.pid
    assert (broker.start(), broker.bootstrap_servers, broker.pid) == (first, first, pid)
    broker.stop()
    broker.stop()
    assert broker.pid is None

    assert broker.start() == first
    broker.stop()


def test_a_port_in_use_is_survived(monkeypatch: pytest.MonkeyPatch, broker: LocalBroker) -> None:
    """The port may be in use by another broker, whose answers must not be mistaken for ours, or by anything else.

    It takes a second, for which the silent port may answer.
    """
    free = local_process.free_port()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = [int(broker.bootstrap_servers.rpartition(":")[2]), silent.getsockname()[1], free]
        monkeypatch.setattr(local_process, "free_port", iter(ports * 2).__next__)
        second = TansuBroker()
        try:
            assert second.start() == f"127.0.0.1:{free}"
            assert second.pid != broker.pid
        finally:
            second.stop()


def test_a_broker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "tansu"
    binary.write_text("#!/bin/sh\necho no memory left >&2\nexit 3\n")
    binary.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(binary))
    broker = TansuBroker(log_path=tmp_path / "log")

    with pytest.raises(BrokerStartError, match=r"exited while it started(?s:.)*no memory left"):
        broker.start()

    assert broker.pid is None


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerStartError, match="`java`"):
        ApacheKafkaBroker(data_dir=tmp_path / "data").start()

    java = tmp_path / "java"
    java.touch(mode=0o755)
    with pytest.raises(BrokerStartError, match="`mvn`"):
        ApacheKafkaBroker(data_dir=tmp_path / "data", libs_dir=tmp_path / "libs").start()


@linux
def test_the_broker_ends_with_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        broker = os.pidfd_open(int(parent.stdout.readline()))
        try:
            os.kill(parent.pid, signal.SIGKILL)
            assert is_readable(broker, 10)
        finally:
            os.close(broker)


def test_a_broker_outlives_the_thread_that_started_it() -> None:
    broker = TansuBroker()
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join(timeout=60)
    try:
        create_topic(broker.bootstrap_servers, "alive")
        assert broker.pid is not None
    finally:
        broker.stop()


@pytest.mark.apache
def test_killed_apache_kafka_restarts_with_its_data(tmp_path: Path) -> None:
    broker = ApacheKafkaBroker(data_dir=tmp_path / "data")
    servers = broker.start()
    try:
        create_topic(servers, "kept")
        with closing(KafkaProducer(bootstrap_servers=servers)) as producer:
            producer.send("kept", b"before").get(timeout=60)

        broker.kill()
        assert broker.pid is None
        assert broker.start() == servers
        with closing(KafkaProducer(bootstrap_servers=servers)) as producer:
            producer.send("kept", b"after").get(timeout=60)

        assert broker.restart() == servers
        assert [record.value for record in read(servers, "kept", 2)] == [b"before", b"after"]
    finally:
        broker.stop()
