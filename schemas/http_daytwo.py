"""The HTTP API's requests and answers of operating it: encryption keys, backups of endpoints, replays, erasures."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from schemas.endpoint import EndpointRecord
from schemas.event import EventType

MAX_RESTORED: Final = 50
MAX_REPLAY_ENDPOINTS: Final = 20
MAX_REPLAY_EVENTS: Final = 20
MAX_REPLAY_ORDERS: Final = 100
MAX_EMAIL: Final = 320
MAX_ORDER_NUMBER: Final = 100

_EMAIL: Final = re.compile(r"[^\s@\"<>]{1,64}@[^\s@\"<>]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_RUN: Final = re.compile(r"[0-9a-f]{8,32}")
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_YEAR: Final = 1971
_LAST_YEAR: Final = 2200


class _Input(BaseModel):
    # A member that nobody knows would be one that has no effect: {"restore": {"dry-run": true}} would restore.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class EncryptionAnswer(_Answer):
    """How the endpoints' secrets are sealed. When ``remaining`` and ``unusable`` are 0, the first key alone is needed."""

    keys: int = Field(description="Keys in encryption_key of the process that answers.")
    endpoints: int
    remaining: int = Field(description="Endpoints that are sealed with another key than the first.")
    unusable: int = Field(description="Endpoints that none of the keys opens.")
    reencrypted: int = Field(default=0, description="How many this request sealed anew.")


class RestoreInput(_Input):
    """The member ``restore`` of a request body: endpoints of a backup, as their lines are."""

    model_config = ConfigDict(json_schema_extra={"required": ["endpoints"]})

    endpoints: tuple[EndpointRecord, ...] = Field(
        default=(), description="Lines of the backup.", json_schema_extra={"minItems": 1, "maxItems": MAX_RESTORED}
    )
    overwrite: bool = Field(default=False, description="Also change endpoints that are there and differ.")
    dry_run: bool = Field(default=False, description="Only say what would be done.")

    @field_validator("endpoints", mode="before")
    @classmethod
    def _check_endpoints(cls, value: object) -> tuple[EndpointRecord, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_RESTORED:
            raise ValueError(f"endpoints must be a list of 1 to {MAX_RESTORED} lines of a backup.")
        return tuple(_record(number, line) for number, line in enumerate(value, 1))

    @field_validator("overwrite", "dry_run", mode="before")
    @classmethod
    def _check_flag(cls, value: object) -> object:
        if isinstance(value, bool):
            return value
        raise ValueError("It must be true or false.")


def _record(number: int, line: object) -> EndpointRecord:
    try:
        return EndpointRecord.model_validate(line)
    except ValidationError as error:
        finding = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, finding["loc"])) or "the line"
        message = f"endpoints: number {number} is not the record of an endpoint: {where}: {finding['msg']}."
        raise ValueError(message) from None


class RestoreBody(BaseModel):
    """The body of a restore."""

    restore: RestoreInput


class RestoredEndpoint(_Answer):
    """What became of one. ``id`` is that of the backup, ``restored_as`` the one that it has here (null: a new one, or none)."""

    id: int
    target_url: str
    step: Literal["create", "update", "keep", "none", "refuse"]
    restored_as: int | None
    differences: list[str] = Field(description="Names of the fields that differ.")
    reason: str


class RestoreAnswer(_Answer):
    """What became of each, in the order of the request. In a dry run: what would become of it."""

    restored: list[RestoredEndpoint]


class ReplayInput(_Input):
    """The member ``replay`` of a request body: which events of the past go to which endpoints again."""

    model_config = ConfigDict(json_schema_extra={"required": ["endpoint_ids", "since", "until"]})

    endpoint_ids: tuple[int, ...] = Field(
        default=(),
        description="The endpoints that get them.",
        json_schema_extra={"minItems": 1, "maxItems": MAX_REPLAY_ENDPOINTS},
    )
    since: AwareDatetime = Field(default=_NEVER, description="Events that were received at this time or later ...")
    until: AwareDatetime = Field(default=_NEVER, description="... and before this time.")
    event_names: tuple[EventType, ...] = Field(default=(), description="Of these types; left out: of all.")
    order_numbers: tuple[str, ...] = Field(
        default=(),
        description="Of these orders; left out: of all.",
        json_schema_extra={"minItems": 1, "maxItems": MAX_REPLAY_ORDERS},
    )
    matched_only: bool = Field(
        default=True, description="An endpoint gets what it matched when it was received; false: all of these events."
    )

    @field_validator("endpoint_ids")
    @classmethod
    def _check_endpoints(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        distinct = tuple(dict.fromkeys(value))
        if not 1 <= len(distinct) <= MAX_REPLAY_ENDPOINTS or not all(0 < one < 2**63 for one in distinct):
            raise ValueError(f"endpoint_ids must be 1 to {MAX_REPLAY_ENDPOINTS} ids of endpoints.")
        return distinct

    @field_validator("event_names", "order_numbers", mode="before")
    @classmethod
    def _check_not_empty(cls, value: object) -> object:
        if value == []:
            raise ValueError("An empty list would mean all; leave it out for all, or name some.")
        return value

    @field_validator("order_numbers")
    @classmethod
    def _check_orders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        orders = tuple(one.strip() for one in value)
        if len(orders) > MAX_REPLAY_ORDERS or not all(1 <= len(one) <= MAX_ORDER_NUMBER and one.isprintable() for one in orders):
            raise ValueError(f"order_numbers must be up to {MAX_REPLAY_ORDERS} order numbers.")
        return orders

    @field_validator("since", "until", mode="before")
    @classmethod
    def _check_time(cls, value: object) -> datetime:
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise ValueError(
                f"It must be a time with its zone, such as 2026-03-02T15:04:00Z, in the years {_FIRST_YEAR} to {_LAST_YEAR}."
            )
        return moment


class ReplayStep(ReplayInput):
    """A step of a replay: the next events behind ``after``, in the order of the time received."""

    model_config = ConfigDict(json_schema_extra={"required": ["endpoint_ids", "since", "until", "run"]})

    run: str = Field(
        default="",
        description="Names the replay in the audit; the same in all its steps.",
        json_schema_extra={"pattern": "^[0-9a-f]{8,32}$"},
    )
    after: str | None = Field(default=None, description="The next of the step before; null: from the beginning.")
    limit: int = Field(
        default=20, description="Events of this step.", json_schema_extra={"minimum": 1, "maximum": MAX_REPLAY_EVENTS}
    )
    skip: bool = Field(default=False, description="Send nothing: only say where the step ends.")

    @field_validator("run")
    @classmethod
    def _check_run(cls, value: str) -> str:
        if _RUN.fullmatch(value):
            return value
        raise ValueError("run must be 8 to 32 digits of a hexadecimal number.")

    @field_validator("limit")
    @classmethod
    def _check_limit(cls, value: int) -> int:
        if 1 <= value <= MAX_REPLAY_EVENTS:
            return value
        raise ValueError(f"limit must be a whole number from 1 to {MAX_REPLAY_EVENTS}.")


class ReplayPreviewBody(BaseModel):
    """The body of a preview."""

    replay: ReplayInput


class ReplayBody(BaseModel):
    """The body of a step."""

    replay: ReplayStep


class ReplayPreview(_Answer):
    """What a replay would send."""

    events: int
    notifications: int


class ReplayAnswer(_Answer):
    """What a step has sent: Kafka has it. ``next`` is null at the end; ``skipped`` events have no body any more."""

    events: int
    sent: int
    skipped: int
    next: str | None


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
