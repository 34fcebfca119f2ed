"""The selector of kafka-python's clients behaves like the standard one, with fewer system calls."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.broker.kafka.compat import FewWaitsSelector


@pytest.fixture
def selector() -> Iterator[FewWaitsSelector]:
    with FewWaitsSelector() as selector:
        yield selector


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


Pair = tuple[socket.socket, socket.socket]


def test_registered_sockets_are_known_open_or_closed(selector: FewWaitsSelector, pair: Pair) -> None:
    known, other = pair
    registered = selector.register(known, selectors.EVENT_READ, "reader")
    assert selector.get_key(known) == selector.get_key(known.fileno()) == registered
    other.send(b"x")
    assert selector.select(1) == [(registered, selectors.EVENT_READ)]
    known.close()
    assert selector.get_key(known) == registered
    selector.unregister(known)
    with pytest.raises(ValueError, match="Invalid file"):
        selector.get_key(known)


def test_an_unknown_socket_has_no_key(selector: FewWaitsSelector, pair: Pair) -> None:
    here, _ = pair
    with pytest.raises(KeyError, match=rf"^'{here.fileno()} is not registered'$"):
        selector.get_key(here)


def test_an_unregistered_socket_is_not_waited_for(selector: FewWaitsSelector, pair: Pair) -> None:
    here, there = pair
    selector.register(here, selectors.EVENT_READ)
    selector.unregister(here)
    there.send(b"x")
    assert selector.select(0.01) == []
    with pytest.raises(KeyError):
        selector.unregister(here)
    assert not selector.get_map()


@pytest.mark.parametrize("events", [selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE])
def test_a_socket_registered_again_before_the_next_wait_is_waited_for(
    selector: FewWaitsSelector, pair: Pair, events: int
) -> None:
    here, there = pair
    selector.register(here, selectors.EVENT_READ, "first")
    selector.unregister(here)
    again = selector.register(here, events, "second")
    assert selector.get_key(here) == again
    assert again.data == "second"
    there.send(b"x")
    assert selector.select(1) == [(again, events)]
    with pytest.raises(KeyError):
        selector.register(here, events)  # it is already registered


def test_another_socket_may_reuse_the_descriptor_of_a_closed_one(selector: FewWaitsSelector) -> None:
    old, far = socket.socketpair()
    descriptor = old.fileno()
    selector.register(old, selectors.EVENT_READ)
    selector.unregister(old)
    old.close()
    far.close()
    new, there = socket.socketpair()
    with new, there:
        assert new.fileno() == descriptor
        registered = selector.register(new, selectors.EVENT_READ)
        there.send(b"x")
        assert selector.select(1) == [(registered, selectors.EVENT_READ)]


def test_a_closed_socket_can_be_unregistered(selector: FewWaitsSelector, pair: Pair) -> None:
    here, _ = pair
    selector.register(here, selectors.EVENT_READ)
    here.close()
    selector.unregister(here)
    assert selector.select(0.01) == []
    assert not selector.get_map()


def test_readable_sockets_are_seen_even_if_there_is_always_more_to_do(selector: FewWaitsSelector, pair: Pair) -> None:
    here, there = pair
    registered = selector.register(here, selectors.EVENT_READ)
    there.send(b"x")
    seen = [selector.select(0) for _ in range(8)]
    assert seen.count([(registered, selectors.EVENT_READ)]) == 2


def test_another_thread_may_unregister_sockets_during_a_wait() -> None:
    # kafka-python does this when a client is closed.
    with ThreadPoolExecutor(1) as other, FewWaitsSelector() as selector:
        for _ in range(50):
            pairs = [socket.socketpair() for _ in range(20)]
            for here, _ in pairs:
                selector.register(here, selectors.EVENT_READ)
            taking_out = other.submit(lambda pairs: [selector.unregister(here) for here, _ in pairs], pairs)
            while not taking_out.done():
                assert selector.select(0) == []
            assert len(taking_out.result()) == len(pairs)
            assert not selector.get_map()
            for each in (end for pair in pairs for end in pair):
                each.close()
