"""Sockets referenced only by a cycle of an exception and its frames, as kafka-python leaves them when it cannot connect."""

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
    """A fan-out creates so few objects that its garbage collector does not run."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fail_to_connect(kept: list[OSError] | None = None) -> weakref.ref[socket.socket]:
    """Return a socket that is not closed, and that nothing can close unless its error is ``kept``."""
    failures = []
    forgotten = socket.socket()
    try:
        forgotten.connect(("127.0.0.1", 1))
    except OSError as error:
        failures.append(error)
    if kept is not None:
        kept.extend(failures)
    return weakref.ref(forgotten)


async def start_closing() -> asyncio.Task[Any]:
    """When this returns, the task knows how many descriptors there are."""
    closing = asyncio.create_task(close_forgotten_sockets(every=0.01, full_apart=0.1))
    await asyncio.sleep(0)
    return closing


async def until_gone(forgotten: list[weakref.ref[socket.socket]], closing: asyncio.Task[Any]) -> None:
    await until(lambda: closing.done() or all(one() is None for one in forgotten))
    assert not closing.done()
    closing.cancel()


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_sockets_that_a_kafka_client_forgets_are_closed() -> None:
    closing = await start_closing()
    forgotten = [fail_to_connect() for _ in range(20)]
    assert all(one() is not None for one in forgotten)
    await until_gone(forgotten, closing)


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_sockets_of_an_old_generation_are_closed_with_newer_ones() -> None:
    closing = await start_closing()
    kept: list[OSError] = []
    old = fail_to_connect(kept)
    gc.collect()  # moves it to an old generation, which is collected rarely
    kept.clear()
    await until_gone([old, *(fail_to_connect() for _ in range(20))], closing)


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_many_old_sockets_are_closed_even_if_no_new_ones_are_forgotten() -> None:
    """Connections that had worked for a long time before they failed."""
    closing = await start_closing()
    kept: list[OSError] = []
    old = [fail_to_connect(kept) for _ in range(100)]
    gc.collect()
    kept.clear()
    await until_gone(old, closing)


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_old_sockets_are_closed_even_if_only_a_few_are_added_at_a_time() -> None:
    closing = await start_closing()
    old: list[weakref.ref[socket.socket]] = []
    for _ in range(5):
        kept: list[OSError] = []
        old += [fail_to_connect(kept) for _ in range(15)]
        gc.collect()
        kept.clear()
        await asyncio.sleep(0.05)
    await until_gone(old[:50], closing)


@in_virtual_time("consumers.garbage_collection.time.monotonic")
async def test_connections_to_endpoints_trigger_no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
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
async def test_nothing_is_collected_while_the_number_of_descriptors_is_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """At full load, each collection stops all deliveries for a while."""
    collections: list[int] = []
    monkeypatch.setattr(gc, "collect", collections.append)
    closing = await start_closing()
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
        first = fail_to_connect()

        def is_closed() -> bool:
            for _ in range(20):  # each failure of the client forgets some more
                fail_to_connect()
            return first() is None

        await until(lambda: starting.done() or is_closed())
        assert not starting.done()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
