"""The HTTP API's requests and answers of operating it: encryption keys, backups of endpoints, replays, erasures."""

from __future__ import annotations

import re
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

MAX_EMAIL: Final = 320
MAX_ORDER_NUMBER: Final = 100

_EMAIL: Final = re.compile(r"[^\s@\"<>]{1,64}@[^\s@\"<>]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class EncryptionAnswer(_Answer):
    """How the endpoints' secrets are sealed. When ``remaining`` and ``unusable`` are 0, the first key alone is needed."""

    keys: int = Field(description="Keys in encryption_key of the process that answers.")
    endpoints: int
    remaining: int = Field(description="Endpoints that are sealed with another key than the first.")
    unusable: int = Field(description="Endpoints that none of the keys opens.")
    reencrypted: int = Field(default=0, description="How many this request sealed anew.")


class ErasureInput(_Input):
    """The member ``erasure`` of a request body: whose data, by one of the two. Neither stands in a URL, a log or the audit."""

    email: SecretStr | None = Field(
        default=None,
        description="Everything of the orders whose events quote this address, and what quotes it besides.",
        json_schema_extra={"minLength": 3, "maxLength": MAX_EMAIL},
    )
    order_number: SecretStr | None = Field(
        default=None,
        description="Everything of this order.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_ORDER_NUMBER},
    )

    @field_validator("email", mode="before")
    @classmethod
    def _check_email(cls, value: object) -> object:
        if value is None or (isinstance(value, str) and len(value) <= MAX_EMAIL and _EMAIL.fullmatch(value.strip())):
            return value.strip() if isinstance(value, str) else value
        raise ValueError("email must be an e-mail address, and nothing else.")

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


class KeptElsewhere(_Answer):
    """Where Kafka still has it, until its retention is over: that is not changed by an erasure."""

    topic: str
    days: int


class TracesAnswer(_Answer):
    """What ClickHouse holds of a person."""

    events: int
    attempts: int
    dead_letters: int
    orders: list[str] = Field(description="The numbers of the orders concerned.")


class ErasurePreview(TracesAnswer):
    """What would be erased."""

    kept_elsewhere: list[KeptElsewhere]


class ErasureAnswer(ErasurePreview):
    """What was erased. ``id`` names it in the audit; ``left`` is what a search for the same finds now: it came meanwhile."""

    id: str
    left: TracesAnswer
