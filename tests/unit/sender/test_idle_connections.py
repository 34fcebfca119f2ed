"""Idle connections: reused by address, newest first, closed after their time or if there are too many."""

from __future__ import annotations

import asyncio
import gc

import pytest

from pipeline.sender import idle_connections
from pipeline.sender.idle_connections import IdleConnections
from tests.unit.virtual_time import in_virtual_time


class Connection:
    """Counts how often it is closed."""

    def __init__(self) -> None:
        self.closed = 0
        self.ended = asyncio.Event()

    def close(self) -> None:
        self.closed += 1
        self.ended.set()


async def test_a_connection_is_reused_for_its_address_only_newest_first() -> None:
    idle: IdleConnections[Connection] = IdleConnections(10, 60)
    here, there = idle.queue("a"), idle.queue("b")
    first, second = Connection(), Connection()
    idle.add(here, first)
    idle.add(here, second)

    assert len(idle) == 2
    assert idle.take(there) is None
    assert idle.queue("a") is here
    assert [idle.take(here), idle.take(here), idle.take(here)] == [second, first, None]
    assert (len(idle), first.closed, second.closed) == (0, 0, 0)


async def test_beyond_the_limit_the_oldest_is_closed_whatever_its_address() -> None:
    idle: IdleConnections[Connection] = IdleConnections(2, 60)
    queues = [idle.queue(name) for name in "abc"]
    connections = [Connection() for _ in queues]
    for queue, connection in zip(queues, connections, strict=True):
        idle.add(queue, connection)

    assert [connection.closed for connection in connections] == [1, 0, 0]
    assert [idle.take(queue) for queue in queues] == [None, *connections[1:]]


async def test_a_connection_is_closed_after_its_time() -> None:
    idle: IdleConnections[Connection] = IdleConnections(10, 0.01)
    queue, connection = idle.queue("a"), Connection()
    idle.add(queue, connection)

    async with asyncio.timeout(60):
        await connection.ended.wait()
    assert idle.take(queue) is None
    assert (len(idle), connection.closed) == (0, 1)


async def test_a_process_that_was_stopped_does_not_reuse_expired_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(idle_connections, "monotonic", lambda: now)
    idle: IdleConnections[Connection] = IdleConnections(10, 4)
    queue, old, new = idle.queue("a"), Connection(), Connection()
    idle.add(queue, old)
    now += 3600
    idle.add(queue, new)

    assert idle.take(queue) is new
    assert idle.take(queue) is None
    assert (old.closed, new.closed) == (1, 0)


@in_virtual_time("pipeline.sender.idle_connections.monotonic", "pipeline.sender.deadlines.monotonic")
async def test_connections_of_a_burst_are_closed_despite_traffic() -> None:
    idle: IdleConnections[Connection] = IdleConnections(10, 60.0)
    queue, connections = idle.queue("a"), [Connection() for _ in range(3)]
    for connection in connections:
        idle.add(queue, connection)

    for _ in range(61):
        taken = idle.take(queue)
        assert taken is connections[-1]
        idle.add(queue, taken)
        await asyncio.sleep(1)
    assert [connection.closed for connection in connections] == [1, 1, 0]


async def test_an_ended_connection_is_not_offered_and_may_be_removed_twice() -> None:
    idle: IdleConnections[Connection] = IdleConnections(10, 60)
    queue, ended, other = idle.queue("a"), Connection(), Connection()
    idle.add(queue, ended)
    idle.add(queue, other)
    idle.remove(ended)
    idle.remove(ended)

    assert (len(idle), ended.closed) == (1, 0)  # whoever removes it closes it
    assert idle.take(queue) is other


async def test_closing_closes_all_connections() -> None:
    idle: IdleConnections[Connection] = IdleConnections(10, 60)
    connections = [Connection() for _ in range(3)]
    for number, connection in enumerate(connections):
        idle.add(idle.queue(number), connection)
    idle.close()

    assert len(idle) == 0
    assert [connection.closed for connection in connections] == [1, 1, 1]


async def test_unused_addresses_are_forgotten() -> None:
    idle: IdleConnections[Connection] = IdleConnections(10, 60)
    kept = idle.queue("kept by an idle connection")
    idle.add(kept, Connection())
    idle.queue("dropped")
    del kept
    gc.collect()

    assert idle.take(idle.queue("kept by an idle connection")) is not None
    assert "dropped" not in idle._queues
