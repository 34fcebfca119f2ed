"""A port given to one process of a test is given to no other, even if nobody listens on it yet."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipeline.devtools.local_process import free_port

_ELSEWHERE = """
import secrets
from pipeline.devtools.local_process import free_port
offsets = iter([{claimed}, *range(11_000, 12_000)])
secrets.randbelow = lambda most: next(offsets)
print(free_port())
"""


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = free_port() - 20_000
    elsewhere = (sys.executable, "-c", _ELSEWHERE.format(claimed=claimed))
    printed = subprocess.run(elsewhere, capture_output=True, text=True, check=True).stdout

    offsets: Iterator[int] = iter([claimed, *range(11_000, 12_000)])
    monkeypatch.setattr("secrets.randbelow", lambda _: next(offsets))
    assert int(printed) != claimed + 20_000
    assert free_port() != claimed + 20_000
