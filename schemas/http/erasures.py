"""Erasures of a person's data in requests and answers of the HTTP API."""

from __future__ import annotations

import re
from typing import Final

from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    field_validator,
)

from schemas.http.answers import Answer
from schemas.http.strict_input import StrictInput

MAX_EMAIL: Final = 320
MAX_ORDER_NUMBER: Final = 100

_EMAIL: Final = re.compile(r"[^\s\x00-\x1f\x7f@\"<>]{1,64}@[^\s\x00-\x1f\x7f@\"<>]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class ErasureInput(StrictInput):
    """The member ``erasure`` of a request body: one of the two says whose data. Neither appears in a URL, a log or the audit."""

    email: SecretStr | None = Field(
        default=None,
        description="Erase all data of the orders whose events contain this address, and everything else that contains it.",
        json_schema_extra={"minLength": 3, "maxLength": MAX_EMAIL},
    )
    order_number: SecretStr | None = Field(
        default=None,
        description="Erase all data of this order.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_ORDER_NUMBER},
    )

    @field_validator("email", mode="before")
    @classmethod
    def _check_email(cls, value: object) -> object:
        if value is None or (isinstance(value, str) and len(value) <= MAX_EMAIL and _EMAIL.fullmatch(value.strip())):
            return value.strip() if isinstance(value, str) else value
        raise ValueError("email must be an email address, and nothing else.")

    @field_validator("order_number", mode="before")
    @classmethod
    def _check_order_number(cls, value: object) -> object:
        if value is None:
            return value
        if isinstance(value, str) and 1 <= len(value.strip()) <= MAX_ORDER_NUMBER and not _CONTROL.search(value):
            return value.strip()
        raise ValueError(f"order_number must be text of 1 to {MAX_ORDER_NUMBER} characters.")


class ErasureBody(BaseModel):
    """The body of an erasure and of its preview."""

    erasure: ErasureInput


class KeptElsewhere(Answer):
    """Where Kafka still has the data until its retention ends. An erasure does not change that."""

    topic: str
    days: int


class TracesAnswer(Answer):
    """The data of a person in ClickHouse."""

    events: int
    attempts: int
    dead_letters: int
    orders: list[str] = Field(description="The numbers of the orders concerned.")


class ErasurePreview(TracesAnswer):
    """The data that would be erased."""

    kept_elsewhere: list[KeptElsewhere]


class ErasureAnswer(ErasurePreview):
    """The data that was erased. ``id`` identifies the erasure in the audit log. ``left`` is data that was recorded in the meantime."""

    id: str
    left: TracesAnswer
