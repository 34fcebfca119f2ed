"""A registry over a topic in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pipeline.broker.api import Position, Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from schemas.codec import to_json
from schemas.endpoint import EndpointRecord
from tests.unit.fake_kafka import FakeProducer, record
from tests.unit.sample_events import endpoint_record

TOPIC = "webhooks.endpoints"
VAULT = Vault(Vault.new_key())
URL = "https://hooks.example.com/same"


def registry(vault: Vault = VAULT) -> Registry:
    made = Registry(MemoryBroker(), TOPIC, vault)
    made.table._loop = asyncio.get_running_loop()
    return made


def value_of(endpoint: EndpointRecord) -> bytes:
    return to_json(endpoint)


def change(endpoint: EndpointRecord) -> Record:
    return record(value_of(endpoint), topic=TOPIC, key=str(endpoint.id).encode(), partition=0)


class EndpointsTopic(FakeProducer):
    """The compacted topic: what is sent reaches the registries that follow it, or waits until the test lets it through."""

    def __init__(self, *followers: Registry, hold: bool = False) -> None:
        super().__init__(hold=hold)
        self.followers = list(followers)

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        spread: bool = False,
        partition: int | None = None,
    ) -> asyncio.Future[Position]:
        future = super().send(topic, key=key, value=value, headers=headers, spread=spread, partition=partition)
        for follower in self.followers:
            self.catch_up(follower)
        return future

    def catch_up(self, follower: Registry) -> None:
        """Let a registry read the topic to its end."""
        table = follower.table
        new = [
            record(sent.value, topic=TOPIC, key=sent.key, partition=0, offset=sent.position.offset)
            for sent in self.to(TOPIC)[table._next :]
        ]
        table._apply(new, table._next + len(new), caught_up=False)


def with_url(url: str) -> Callable[[int], EndpointRecord]:
    return lambda endpoint_id: endpoint_record(endpoint_id, target_url=url)


def errors() -> float:
    return float(metrics.TABLE_ERRORS._value.get())
