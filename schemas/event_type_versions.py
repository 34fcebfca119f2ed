"""Versions of event types that an endpoint pins: it gets events of the type in this version only."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from schemas.event_types import BUILT_IN, EventTypes

PINS_DESCRIPTION: Final = (
    'Versions of event types that are pinned, such as {"refund_issued": 1}: events of the type are sent in this version only. '
    "An event type that is not named is sent in every version. null or {} pins none."
)
_FORM: Final = 'event_type_versions must be an object of event types with a version each, such as {"refund_issued": 1}'
_PIN: Final = re.compile(r"\s*([^\s=]+)\s*=\s*([0-9]{1,9})\s*")


def check_versions(value: object, types: EventTypes = BUILT_IN) -> dict[str, int]:
    """Pinned versions, in the order of the event types.

    Raises:
        ValueError: they cannot be pinned; the text is a sentence.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{_FORM}.")  # noqa: TRY004 - a validator's error
    for name, version in value.items():
        if name not in types.by_name:
            raise ValueError(
                f"event_type_versions has an unknown event type: {str(name)[:50]!r}. Known types: {', '.join(types.names)}."
            )
        known = types.versions(name)
        if isinstance(version, bool) or version not in known:
            has = f"has only version {known[0]}" if len(known) == 1 else f"has versions {', '.join(map(str, known))}"
            is_number = isinstance(version, int) and not isinstance(version, bool)
            what = f"event_type_versions pins {name} to version {version}, but it" if is_number else f"{_FORM}; {name}"
            raise ValueError(f"{what} {has}.")
    return {name: value[name] for name in types.in_order(value)}


def not_subscribed(pins: Mapping[str, int], events: Collection[str]) -> str | None:
    """A sentence about pins of event types that the endpoint does not subscribe to; None if there are none."""
    extra = [name for name in pins if name not in events]
    return (
        f"event_type_versions has {', '.join(extra)}, but events does not: add it to events, or remove it here."
        if extra
        else None
    )


def pins_of(text: str) -> object:
    """Pins as people write them: ``refund_issued=1, order_returned=2``. Other text is returned unchanged, and refused later."""
    parts = [part for part in re.split(r"[,;\n]|\s(?=\S+\s*=)", text) if part.strip()]
    found = [_PIN.fullmatch(part) for part in parts]
    pins = {match[1]: int(match[2]) for match in found if match is not None}
    return pins if len(pins) == len(parts) else text  # one is not a pin, or an event type is pinned twice


def text_of(pins: Mapping[str, int]) -> str:
    """The inverse of :func:`pins_of`."""
    return ", ".join(f"{name}={version}" for name, version in pins.items())
