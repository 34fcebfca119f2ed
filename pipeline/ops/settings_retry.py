"""The settings of retries: the delays, the named retry policies, and the ramp after an endpoint recovers."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from pipeline.core.retry_policies import RetryPolicies
from schemas.retry_policy import check_delays
from schemas.topics import parse_delay


def _read(value: object) -> object:
    return tuple(parse_delay(part) for part in value.split(",")) if isinstance(value, str) else value


def _read_some(value: object) -> object:
    return () if isinstance(value, str) and not value.strip() else _read(value)


def _above_zero(delays: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    if any(delay <= timedelta(0) for delay in delays):
        message = "delays must be above zero, such as 30s,2h"
        raise ValueError(message)
    return delays


Delays = Annotated[tuple[timedelta, ...], NoDecode, BeforeValidator(_read), AfterValidator(check_delays)]
FurtherDelays = Annotated[tuple[timedelta, ...], NoDecode, BeforeValidator(_read_some), AfterValidator(_above_zero)]

_STANDARD: Final = tuple(map(parse_delay, ("5s", "1m", "10m", "1h", "6h")))
_PATIENT: Final = tuple(map(parse_delay, ("1h", "6h", "17h", "1d", "1d")))
_IMPATIENT: Final = tuple(map(parse_delay, ("5s", "5s", "15s", "15s", "15s")))


class RetrySettings(BaseSettings):
    """A part of Settings."""

    retry_delays: Delays = Field(
        default=_STANDARD,
        description="Delays of the standard retry policy: one to five, one before each retry, such as 5s,1m,10m,1h,6h. Each has its own topic.",
    )
    patient_retry_delays: Delays = Field(
        default=_PATIENT,
        description="Delays of the patient retry policy. Default: five retries over 72 hours.",
    )
    impatient_retry_delays: Delays = Field(
        default=_IMPATIENT,
        description="Delays of the impatient retry policy. Default: five retries within a minute.",
    )
    further_retry_delays: FurtherDelays = Field(
        default=(),
        description="More delays that endpoints may use in their own retry policies, such as 30s,2h. Each has its own topic.",
    )

    ramp_start_per_second: float = Field(
        default=10.0,
        ge=0,
        le=10_000,
        description="Requests per second right after an endpoint recovers from an outage or is resumed. The rate rises with each "
        "success, up to the endpoint's limit. 0: no ramp, the whole backlog is sent immediately.",
    )
    ramp_double_seconds: float = Field(
        default=10.0,
        ge=0.1,
        le=3600,
        description="How many seconds this rate takes to double, while there is enough to send.",
    )

    @property
    def retry_policies(self) -> RetryPolicies:
        """The retry policies of this deployment."""
        return RetryPolicies(self.retry_delays, self.patient_retry_delays, self.impatient_retry_delays, self.further_retry_delays)
