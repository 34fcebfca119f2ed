"""What the demo prints."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from consumers.cli.demo import _SUBSCRIPTIONS, _tell
from pipeline.devtools.receiver import Received
from schemas.event import EventType


@pytest.mark.parametrize("event", EventType)
@pytest.mark.parametrize("name", _SUBSCRIPTIONS)
def test_an_attempt_is_one_line_of_a_terminal(event: EventType, name: str) -> None:
    body = json.dumps({"event_name": event, "data": {"number": "CHORD-000111222"}}).encode()
    written = io.StringIO()
    _tell(Console(file=written), name, Received("/", "evt_1", 6, "refused", 500, "as asked", 0.0, {}, body))
    line = written.getvalue().rstrip("\n")
    assert len(line) <= 80
    assert line.endswith(f"CHORD-000111222 -> {name:6} 500 (try 6)")
