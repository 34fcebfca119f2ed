"""Sockets that nothing refers to but a cycle of an exception and its frames, as kafka-python leaves them when it cannot connect."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
import weakref
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from consumers import run
from consumers.garbage_collection import close_forgotten_sockets
from consumers.run import Role, running
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from tests.unit.virtual_time import in_virtual_time
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("sleeping_collector")


@pytest.fixture
def sleeping_collector() -> Iterator[None]:
    """A fan-out makes so few objects that its collector does not wake."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connect_in_vain(kept: list[OSError] | None = None) -> weakref.ref[socket.socket]:
    """Returns a socket that nobody has closed, and nobody can, unless it is ``kept``."""
    failures = []
    forgotten = socket.socket()
    try:
        forgotten.connect(("127.0.0.1", 1))
    except OSError as error:
        failures.append(error)
    if kept is not None:
        kept.extend(failures)
    return weakref.ref(forgotten)


async def looking() -> asyncio.Task[Any]:
    """The task has begun: it knows how many descriptors there are."""
    closing = asyncio.create_task(close_forgotten_sockets(every=0.01, full_apart=0.1))
    await asyncio.sleep(0)
    return closing


async def until_gone(forgotten: list[weakref.ref[socket.socket]], closing: asyncio.Task[Any]) -> None:
    await until(lambda: closing.done() or all(one() is None for one in forgotten))
    assert not closing.done()
    closing.cancel()


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_sockets_that_a_client_of_kafka_forgets_are_closed() -> None:
    closing = await looking()
    forgotten = [connect_in_vain() for _ in range(20)]
    assert all(one() is not None for one in forgotten)
    await until_gone(forgotten, closing)


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_those_that_have_become_old_meanwhile_are_closed_with_others() -> None:
    closing = await looking()
    kept: list[OSError] = []
    old = connect_in_vain(kept)
    gc.collect()  # nobody looks at it again for long
    kept.clear()
    await until_gone([old, *(connect_in_vain() for _ in range(20))], closing)


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_many_that_are_old_are_closed_though_nothing_is_forgotten_besides() -> None:
    """Connections that had worked for long when they failed."""
    closing = await looking()
    kept: list[OSError] = []
    old = [connect_in_vain(kept) for _ in range(100)]
    gc.collect()
    kept.clear()
    await until_gone(old, closing)


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_old_ones_are_closed_though_only_a_few_are_added_each_time() -> None:
    closing = await looking()
    old: list[weakref.ref[socket.socket]] = []
    for _ in range(5):
        kept: list[OSError] = []
        old += [connect_in_vain(kept) for _ in range(15)]
        gc.collect()
        kept.clear()
        await asyncio.sleep(0.05)
    await until_gone(old[:50], closing)


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_nothing_is_collected_for_connections_to_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    collections: list[int] = []
    connections = [socket.socket() for _ in range(5)]
    closing = asyncio.create_task(close_forgotten_sockets(lambda: len(connections), every=0.01, full_apart=0.1))
    await asyncio.sleep(0)
    monkeypatch.setattr(gc, "collect", collections.append)
    connections += [socket.socket() for _ in range(100)]
    await asyncio.sleep(1)
    assert not closing.done()
    closing.cancel()
    for one in connections:
        one.close()
    assert collections == []


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_nothing_is_collected_while_the_number_of_descriptors_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """At full load, each collection stops all deliveries for a while."""
    collections: list[int] = []
    monkeypatch.setattr(gc, "collect", collections.append)
    closing = await looking()
    await asyncio.sleep(1)
    assert not closing.done()
    closing.cancel()
    assert collections == []


@pytest.mark.parametrize("role", Role)
async def test_every_role_closes_them_while_its_start_waits_for_kafka(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "close_forgotten_sockets", functools.partial(close_forgotten_sockets, every=0.01))
    nobody, key = "127.0.0.1:1", SecretStr(Vault.new_key())
    settings = Settings(
        kafka_bootstrap_servers=nobody, clickhouse_url=f"http://{nobody}", encryption_key=key, http_host="127.0.0.1", http_port=0
    )
    async with AsyncExitStack() as stack:
        starting: asyncio.Task[Any] = asyncio.create_task(stack.enter_async_context(running(settings, [role])))
        first = connect_in_vain()

        def is_closed() -> bool:
            for _ in range(20):  # each failure of the client forgets some more
                connect_in_vain()
            return first() is None

        await until(lambda: starting.done() or is_closed())
        assert not starting.done()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
