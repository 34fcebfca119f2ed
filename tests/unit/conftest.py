"""What the unit tests share."""

from __future__ import annotations

import pytest

from pipeline.broker import record_batcher


@pytest.fixture(autouse=True)
def _entries_wait_for_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is written in the next turn of the event loop, so that tests can step through it without waiting."""
    monkeypatch.setattr(record_batcher, "_GATHER_S", 1e-9)
