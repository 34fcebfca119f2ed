"""The HTTP API's requests and answers beside endpoints and attempts: tests, resends, statistics, dead letters, API keys."""

from __future__ import annotations

import base64
import re
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from schemas.api_key import Access
from schemas.event import EventType
from schemas.http_api import AttemptDetailAnswer, EndpointInput, ListAnswer, Time

MAX_KEY_NAME: Final = 100
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class _Input(BaseModel):
    # A member that nobody knows would be one that has no effect: {"restore": {"dry-run": true}} would restore.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class NewEndpoint(EndpointInput):
    """An endpoint to register."""

    model_config = ConfigDict(json_schema_extra={"required": ["target_url", "events"]})


class NewEndpointBody(BaseModel):
    """The body of a create."""

    endpoint: NewEndpoint


class EndpointBody(BaseModel):
    """The body of a change: only the fields that are given change."""

    endpoint: EndpointInput


class HeldDropInput(_Input):
    """The body of a drop of what is held for an endpoint."""

    model_config = ConfigDict(json_schema_extra={"required": ["count"]})

    count: int = Field(
        default=0,
        description="How many deliveries are dropped. When not as many are held, nothing is.",
        json_schema_extra={"minimum": 1},
    )

    @field_validator("count", mode="before")
    @classmethod
    def _check_count(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**53:
            return value
        raise ValueError("count must be a whole number from 1: how many deliveries are held, and to be dropped.")


class HeldDropAnswer(_Answer):
    """How many deliveries were dropped: they are not sent, and each ends on record as discarded."""

    dropped: int


class TestInput(_Input):
    """The member ``test`` of a request body."""

    __test__ = False  # for pytest: it is no test

    event_name: EventType | None = Field(default=None, description="What is sent; default: the endpoint's first event type.")

    @field_validator("event_name", mode="before")
    @classmethod
    def _check_event_name(cls, value: object) -> object:
        if value is None or (isinstance(value, str) and value in set(EventType)):
            return value
        raise ValueError(f"event_name must be one of {', '.join(EventType)}.")


class TestBody(BaseModel):
    """The body of a test; it may be left out."""

    __test__ = False

    test: TestInput = TestInput()


class TestAnswer(_Answer):
    """What came of a test delivery: the attempt as it will stand in the attempts, in a moment."""

    __test__ = False

    attempt: AttemptDetailAnswer


class ResendAnswer(_Answer):
    """A resend is on its way: its attempt follows at once, with the same webhook-id, and repeats as of any delivery."""

    event_id: str
    event_name: str
    endpoint_id: int
    target_url: str
    state: Literal["queued"] = "queued"


class BucketAnswer(_Answer):
    """An hour: attempts that were acknowledged, and that were not."""

    start: Time
    succeeded: int
    failed: int


class DurationAnswer(_Answer):
    """Percentiles of the attempts' durations, in milliseconds."""

    p50: float
    p95: float
    p99: float


class LastFailureAnswer(_Answer):
    """The newest attempt that was not acknowledged."""

    attempt_id: int
    created_at: Time
    http_status_code: int | None
    failure: str | None
    error: str | None


class StatsAnswer(_Answer):
    """An endpoint's last 24 hours. Test deliveries do not count; ``discarded`` attempts (due, and not made) count apart."""

    endpoint_id: int
    since: Time
    until: Time
    attempts: int
    succeeded: int
    failed: int
    discarded: int
    success_rate: float | None = Field(description="From 0 to 1; null without an attempt.")
    duration_ms: DurationAnswer | None
    last_failure: LastFailureAnswer | None
    buckets: list[BucketAnswer] = Field(description="24 hours, the oldest first.")


class EventTypeAnswer(_Answer):
    """An event type: ``sample`` is a webhook body, ``json_schema`` describes such a body (JSON Schema 2020-12)."""

    name: EventType
    description: str
    sample: dict[str, Any]
    json_schema: dict[str, Any]


class EventTypesAnswer(_Answer):
    """The event types that there are."""

    event_types: list[EventTypeAnswer]


class DeadLetterAnswer(_Answer):
    """A record that could not be used: why, and where it was. ``size`` is that of its value, in bytes."""

    id: int
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    failed_at: Time
    size: int


class BytesAnswer(_Answer):
    """Bytes as they came: as text when they are UTF-8, in base64 when they are not."""

    content: str
    encoding: Literal["text", "base64"]


class HeaderAnswer(_Answer):
    """A header of a Kafka record."""

    name: str
    value: BytesAnswer


class DeadLetterDetailAnswer(DeadLetterAnswer):
    """A dead letter with its bytes. ``value`` is null when the record's was."""

    key: BytesAnswer | None
    value: BytesAnswer | None
    headers: list[HeaderAnswer]


class DeadLetterListAnswer(ListAnswer):
    """A page of dead letters, the newest first."""

    dead_letters: list[DeadLetterAnswer]


class BytesInput(_Input):
    """Bytes: text, or base64 of them."""

    content: str
    encoding: Literal["text", "base64"] = "text"

    def decoded(self) -> bytes:
        """The bytes.

        Raises:
            ValueError: they are none; the text is a sentence.
        """
        if self.encoding == "text":
            return self.content.encode()
        try:
            return base64.b64decode(self.content, validate=True)
        except ValueError:
            raise ValueError("content is not base64.") from None


class RepairInput(_Input):
    """The member ``record`` of a request body: what is published instead; what is left out stays as it was."""

    key: BytesInput | None = None
    value: BytesInput | None = None

    @field_validator("key", "value", mode="before")
    @classmethod
    def _are_wrapped(cls, given: object, info: ValidationInfo) -> object:
        if given is None or isinstance(given, BytesInput) or (isinstance(given, dict) and "content" in given):
            return given
        message = f'{info.field_name} must be bytes such as {{"content": "…", "encoding": "text"}}; base64 is the other encoding.'
        raise ValueError(message)


class RepairBody(BaseModel):
    """The body of a re-publish; it may be left out."""

    record: RepairInput = RepairInput()


class RepublishAnswer(_Answer):
    """A dead letter is an event again; Kafka has it, and the fan-out reads it next."""

    event_id: str
    event_name: str
    topic: str
    partition: int
    offset: int


class KeyInput(_Input):
    """The member ``key`` of a request body."""

    name: str = Field(default="", description="Whose key it is.", json_schema_extra={"minLength": 1, "maxLength": MAX_KEY_NAME})
    role: Access = Field(default=Access.VIEWER, description="What the key may do; each role may do all that those before it may.")

    @field_validator("name", mode="before")
    @classmethod
    def _check_name(cls, value: object) -> str:
        if isinstance(value, str) and len(value.strip()) >= 1 and len(value) <= MAX_KEY_NAME and not _CONTROL.search(value):
            return value.strip()
        raise ValueError(f"name must be text of 1 to {MAX_KEY_NAME} characters, without line breaks.")

    @field_validator("role", mode="before")
    @classmethod
    def _check_role(cls, value: object) -> object:
        if isinstance(value, str) and value in set(Access):
            return value
        raise ValueError(f"role must be one of {', '.join(Access)}.")


class NewKey(KeyInput):
    """A key to make."""

    model_config = ConfigDict(json_schema_extra={"required": ["name", "role"]})


class KeyBody(BaseModel):
    """The body of a create."""

    key: NewKey


class KeyAnswer(_Answer):
    """An API key. ``id`` also names it in audits (``api-key:<id>``)."""

    id: str
    name: str
    role: Access
    created_at: Time
    created_by: str


class KeyCreated(KeyAnswer):
    """The answer to a create, the only one that shows the ``key``."""

    key: str


class KeysAnswer(_Answer):
    """The keys that are valid. Those of the setting ``api_keys`` are not among them."""

    keys: list[KeyAnswer]
