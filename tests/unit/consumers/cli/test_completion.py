"""Shell completion."""

from __future__ import annotations

import pytest

from consumers.cli.option_values import complete_event_type
from tests.deploy.files import DEPLOY


def test_event_types_of_the_deployment_are_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete_event_type("refund") == []
    monkeypatch.setenv("OMS_WEBHOOKS_EVENT_TYPES_FILE", str(DEPLOY / "event-types" / "event-types.yaml"))
    assert complete_event_type("refund") == ["refund_issued"]
    assert complete_event_type("order_c") == ["order_completed", "order_cancelled"]
    monkeypatch.setenv("OMS_WEBHOOKS_EVENT_TYPES_FILE", "/nowhere/event-types.yaml")
    assert complete_event_type("order_c") == ["order_completed", "order_cancelled"]
