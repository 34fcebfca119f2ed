"""The selector of kafka-python's clients behaves as the standard one."""

from __future__ import annotations

import selectors
import socket

import pytest

from pipeline.broker.selector import PlainSelector


def test_it_knows_what_was_registered_open_or_closed() -> None:
    known, unknown = socket.socketpair()
    with PlainSelector() as selector, unknown:
        registered = selector.register(known, selectors.EVENT_READ, "reader")
        assert selector.get_key(known) == selector.get_key(known.fileno()) == registered
        unknown.send(b"x")
        assert selector.select(1) == [(registered, selectors.EVENT_READ)]
        known.close()
        assert selector.get_key(known) == registered
        selector.unregister(known)
        with pytest.raises(ValueError, match="Invalid file"):
            selector.get_key(known)


def test_a_socket_that_it_does_not_know_is_not_described() -> None:
    here, there = socket.socketpair()
    with PlainSelector() as selector, here, there, pytest.raises(KeyError, match=rf"^'{here.fileno()} is not registered'$"):
        selector.get_key(here)
