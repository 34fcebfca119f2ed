"""The cost of a record with each Kafka client: CPU time of a process that reads and writes at a steady rate, on a real Apache Kafka.

A child process reads a topic through our GroupConsumer and writes a record of 1 KB for each (``acks=all``), like the fan-out
for an attempt. Another process produces at the rate. Run it with nothing else on the machine: ``python -m tests.bench.client --rate 200``.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from pipeline.broker.api import Receipt, Record
from pipeline.broker.consumer import ConsumerOptions, GroupConsumer
from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.devtools.local_broker import ApacheKafkaBroker
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec

CLIENTS = ("kafka-python", "librdkafka")
VALUE = os.urandom(1024)
_WARM = 500
_RESULT = "result:"


def settings_of(servers: str, client: str) -> Settings:
    return Settings(kafka_bootstrap_servers=servers, kafka_client=client, kafka_replication_factor=1)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def child(servers: str, client: str, prefix: str, seconds: float) -> None:
    """Read and write; print records, CPU seconds, and the median time from a record's timestamp to its handling, in ms."""
    broker = open_broker(settings_of(servers, client))
    producer = Producer(broker, [f"{prefix}out"])
    await producer.start()
    latencies: list[float] = []
    is_warm = asyncio.Event()

    def finish(receipt: Receipt, _: object) -> None:
        consumer.finish(receipt)

    def handle(records: list[Record]) -> None:
        now = time.time() * 1000
        for record in records:
            latencies.append(now - record.timestamp_ms)
            written = producer.send(f"{prefix}out", key=None, value=record.value, spread=True)
            written.add_done_callback(functools.partial(finish, record.receipt))
        if len(latencies) >= _WARM:
            is_warm.set()

    consumer = GroupConsumer(
        broker,
        ConsumerOptions(
            group=f"{prefix}{client}",
            topics=[f"{prefix}in"],
            max_outstanding=5_000,
            max_outstanding_bytes=64 * 1024 * 1024,
        ),
        on_records=handle,
    )
    await consumer.start()
    await is_warm.wait()
    before, used = len(latencies), cpu_seconds()
    await asyncio.sleep(seconds)
    count, used = len(latencies) - before, cpu_seconds() - used
    print(f"\n{_RESULT}", count, used, statistics.median(latencies[before:]), flush=True)
    await consumer.stop(5)
    await producer.close()


async def produce(servers: str, topic: str, rate: float, stop: asyncio.Event) -> None:
    producer = Producer(open_broker(settings_of(servers, "kafka-python").model_copy(update={"kafka_linger_ms": 1})), [topic])
    await producer.start()
    began, sent = time.monotonic(), 0
    while not stop.is_set():
        while sent < (time.monotonic() - began) * rate:
            producer.send(topic, key=None, value=VALUE, spread=True)
            sent += 1
        await asyncio.sleep(0.002)
    await producer.close()


async def measured(servers: str, client: str, rate: float, seconds: float) -> str:
    prefix = f"bench{time.time_ns()}."
    with open_broker(settings_of(servers, client)).admin() as admin:
        admin.create_missing([TopicSpec(f"{prefix}{name}", "any", "delete", 3_600_000, partitions=6) for name in ("in", "out")])
    stop = asyncio.Event()
    producing = asyncio.create_task(produce(servers, f"{prefix}in", rate, stop))
    command = [sys.executable, "-m", "tests.bench.client", "--child", client, "--servers", servers, "--prefix", prefix]
    process = await asyncio.create_subprocess_exec(*command, "--seconds", str(seconds), stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    stop.set()
    await producing
    count, used, latency = map(float, output.decode().partition(_RESULT)[2].split()[:3])
    return (
        f"{client}: {count / seconds:.0f} records/s, {used / count * 1e6:.0f} us of CPU a record, median latency {latency:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--servers", default="")
    parser.add_argument("--child", default="")
    parser.add_argument("--prefix", default="")
    options = parser.parse_args()
    if options.child:
        uvloop.run(child(options.servers, options.child, options.prefix, options.seconds))
        return
    with tempfile.TemporaryDirectory() as directory:
        broker = None if options.servers else ApacheKafkaBroker(data_dir=Path(directory))
        servers = options.servers or (broker.start() if broker else "")
        try:
            for _ in range(options.rounds):
                for client in CLIENTS:
                    print(uvloop.run(measured(servers, client, options.rate, options.seconds)), flush=True)
        finally:
            if broker:
                broker.stop()


if __name__ == "__main__":
    main()
