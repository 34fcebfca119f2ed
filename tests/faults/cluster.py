"""Three Apache Kafka brokers on loopback, each a process that can be killed, frozen and restarted: three replicas, two in sync."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaAdminClient

from pipeline.devtools.local_broker import ApacheKafkaBroker, new_cluster_id
from pipeline.devtools.local_process import HOST, free_port
from tests.waiting import until

SIZE = 3
_OFFSETS = "__consumer_offsets"


class Node(ApacheKafkaBroker):
    """One of the three: broker and controller in one process."""

    _start_seconds = 180.0
    """The first start waits for the others, and the machine may be busy."""
    heap = "320m"

    def __init__(self, number: int, directory: Path, ports: Sequence[int], controllers: Sequence[int], cluster_id: str) -> None:
        """``number`` starts at 1. ``ports`` and ``controllers`` are those of all three, in order."""
        port, controller = ports[number - 1], controllers[number - 1]
        voters = ",".join(f"{each}@{HOST}:{at}" for each, at in enumerate(controllers, 1))
        super().__init__(
            data_dir=directory / f"broker-{number}",
            server_properties={
                "node.id": str(number),
                "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
                "controller.quorum.voters": voters,
                "min.insync.replicas": "2",
                "offsets.topic.replication.factor": str(SIZE),
                "transaction.state.log.replication.factor": str(SIZE),
                "transaction.state.log.min.isr": "2",
                "group.min.session.timeout.ms": "2000",
                "replica.lag.time.max.ms": "5000",
            },
        )
        self.number = number
        self._port = port
        self._cluster_id = cluster_id

    def freeze(self) -> None:
        """Send SIGSTOP: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.pid is not None, f"broker {self.number} is not running"
        os.kill(self.pid, number)


class KafkaCluster:
    """The three brokers and their tasks."""

    def __init__(self, directory: Path) -> None:
        ports, controllers, cluster_id = _free_ports(), _free_ports(), new_cluster_id()
        self.nodes = [Node(number, directory, ports, controllers, cluster_id) for number in range(1, SIZE + 1)]
        self.bootstrap_servers = ",".join(f"{HOST}:{port}" for port in ports)

    def start(self, *nodes: Node) -> None:
        """Start these, or all that are not running, at once: a broker answers only if most of them run."""
        with ThreadPoolExecutor(SIZE) as threads:
            for started in [threads.submit(node.start) for node in nodes or self.nodes]:
                started.result()

    def stop(self) -> None:
        """Stop all of them, whatever their state."""
        for node in self.nodes:
            if node.pid is not None:
                node.kill()

    def node(self, number: int) -> Node:
        return self.nodes[number - 1]

    async def leader(self, topic: str, partition: int) -> Node:
        """Return the leader of a partition."""
        return await asyncio.to_thread(self._leader, topic, partition)

    async def coordinator(self, group: str) -> Node:
        """Return a group's coordinator: the leader of its partition of the offsets topic."""
        return await asyncio.to_thread(self._coordinator, group)

    def _coordinator(self, group: str) -> Node:
        with self._asking() as admin:
            [topic] = admin.describe_topics([_OFFSETS])
        return self._leader(_OFFSETS, (_java_hash(group) & 0x7FFFFFFF) % len(topic["partitions"]))

    def _leader(self, topic: str, number: int) -> Node:
        with self._asking() as admin:
            [described] = admin.describe_topics([topic])
        [leader] = [each["leader_id"] for each in described["partitions"] if each["partition_index"] == number]
        return self.node(leader)

    async def until_in_sync(self, topic: str, seconds: float) -> None:
        """Wait until every partition of a topic has all its replicas."""
        await until(lambda: asyncio.to_thread(self._is_in_sync, topic), f"{topic} lacks replicas", seconds=seconds)

    def _is_in_sync(self, topic: str) -> bool:
        with self._asking() as admin:
            [described] = admin.describe_topics([topic])
        return all(len(each["isr_nodes"]) == SIZE for each in described["partitions"])

    @contextmanager
    def _asking(self) -> Iterator[KafkaAdminClient]:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        try:
            yield admin
        finally:
            admin.close()


def _free_ports() -> list[int]:
    ports: set[int] = set()
    while len(ports) < SIZE:
        ports.add(free_port())
    return sorted(ports)


def _java_hash(text: str) -> int:
    """Compute Java's ``String.hashCode`` for ASCII: it determines the partition of a group's offsets."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value
