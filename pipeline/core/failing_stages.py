"""Decides when to notify the owner of an endpoint that keeps failing. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Final

FAILING: Final = "failing"
PERCENTS: Final = (50, 75, 90)
"""In percent of the time after which an endpoint is disabled."""


def stages_reached(failing_for: timedelta, notify_after: timedelta, disable_after: timedelta) -> tuple[str, ...]:
    """The stages that an endpoint has reached after failing for ``failing_for``."""
    failing = (FAILING,) if failing_for >= notify_after else ()
    return (*failing, *(str(percent) for percent in PERCENTS if failing_for >= disable_after * percent / 100))


def stages_to_notify(stages: Collection[str], notified: Collection[str]) -> tuple[str, ...]:
    """The stages to notify the owner of now. Of several percentages, only the highest."""
    failing = (FAILING,) if FAILING in stages and FAILING not in notified else ()
    percents = [stage for stage in stages if stage != FAILING]
    return (*failing, *(percents[-1:] if percents and percents[-1] not in notified else ()))
