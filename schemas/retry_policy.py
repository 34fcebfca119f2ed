"""The text form of an endpoint's retry policy: the name of one of the deployment's policies, or delays such as ``5s,1m,10m``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from schemas.topics import delay_label, parse_delay

MAX_RETRIES: Final = 5
STANDARD: Final = "standard"
PATIENT: Final = "patient"
IMPATIENT: Final = "impatient"
POLICY_NAMES: Final = (STANDARD, PATIENT, IMPATIENT)
RETRY_POLICY_DESCRIPTION: Final = (
    "When a notification that was not acknowledged is retried: standard, patient, impatient, or one to five delays of the deployment, "
    "such as 5s,1m,10m. null: standard."
)
_FORM: Final = f"retry_policy must be {', '.join(POLICY_NAMES)}, or one to {MAX_RETRIES} delays, each no shorter than the one before, such as 5s,1m,10m"
_MAX_TEXT: Final = 200


def check_delays(delays: Sequence[timedelta]) -> tuple[timedelta, ...]:
    """The delays of a schedule.

    Raises:
        ValueError: they are invalid.
    """
    if not 1 <= len(delays) <= MAX_RETRIES:
        message = f"a schedule has 1 to {MAX_RETRIES} delays (a notification is retried up to {MAX_RETRIES} times)"
        raise ValueError(message)
    if any(delay <= timedelta(0) for delay in delays) or list(delays) != sorted(delays):
        message = "delays must be above zero and must not get shorter, such as 5s,1m,10m,1h,6h"
        raise ValueError(message)
    return tuple(delays)


def custom_delays(policy: str) -> tuple[timedelta, ...]:
    """The delays in a policy.

    Raises:
        ValueError: it is a name, or something else.
    """
    return check_delays([parse_delay(part) for part in policy.split(",")])


def check_retry_policy(value: object) -> str:
    """A policy as it is stored: a name, or delays in their shortest form (``60s`` becomes ``1m``). None means ``standard``.

    Does not check whether the deployment has the delays.

    Raises:
        ValueError: it is invalid; the text is a sentence.
    """
    if value is None:
        return STANDARD
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError(f"{_FORM}.")
    text = value.strip()
    if text in POLICY_NAMES:
        return text
    try:
        return ",".join(map(delay_label, custom_delays(text)))
    except ValueError as error:
        raise ValueError(f"{_FORM}: {error}.") from None
