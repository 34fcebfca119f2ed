"""Small requests and answers of the HTTP API: bodies of endpoints, held deliveries, tests, resends, statistics, event types."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationInfo, field_validator

from schemas.event_types import EventName, types_in
from schemas.http.answers import Answer, Time
from schemas.http.attempts import AttemptDetailAnswer
from schemas.http.endpoints import EndpointInput
from schemas.http.strict_input import StrictInput


class NewEndpoint(EndpointInput):
    """An endpoint to register."""

    model_config = ConfigDict(json_schema_extra={"required": ["target_url", "events"]})


class NewEndpointBody(BaseModel):
    """The body of a create."""

    endpoint: NewEndpoint


class EndpointBody(BaseModel):
    """The body of a change: only the given fields change."""

    endpoint: EndpointInput


class HeldDropInput(StrictInput):
    """The body of a drop of an endpoint's held deliveries."""

    model_config = ConfigDict(json_schema_extra={"required": ["count"]})

    count: int = Field(
        default=0,
        description="Number of deliveries to drop. If another number is held, nothing is dropped.",
        json_schema_extra={"minimum": 1},
    )

    @field_validator("count", mode="before")
    @classmethod
    def _check_count(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**53:
            return value
        raise ValueError("count must be a whole number from 1: the number of held deliveries to drop.")


class HeldDropAnswer(Answer):
    """Number of dropped deliveries. They are not sent, and are recorded as discarded."""

    dropped: int


class TestInput(StrictInput):
    """The member ``test`` of a request body."""

    __test__ = False  # for pytest: it is not a test

    event_name: EventName | None = Field(
        default=None, description="Event type to send. Default: the endpoint's first event type."
    )

    @field_validator("event_name", mode="before")
    @classmethod
    def _check_event_name(cls, value: object, info: ValidationInfo) -> object:
        types = types_in(info)
        if value is None or (isinstance(value, str) and value in types.by_name):
            return value
        raise ValueError(f"event_name must be one of {', '.join(types.names)}.")


class TestBody(BaseModel):
    """The body of a test; it may be omitted."""

    __test__ = False

    test: TestInput = TestInput()


class TestAnswer(Answer):
    """The attempt of a test delivery. It will soon appear in the list of attempts."""

    __test__ = False

    attempt: AttemptDetailAnswer


class ResendAnswer(Answer):
    """A queued resend. Its attempt follows immediately, with the same webhook-id and the usual retries."""

    event_id: str
    event_name: str
    endpoint_id: int
    target_url: str
    state: Literal["queued"] = "queued"


class BucketAnswer(Answer):
    """The attempts of an hour: acknowledged, and not acknowledged."""

    start: Time
    succeeded: int
    failed: int


class DurationAnswer(Answer):
    """Percentiles of the attempts' durations, in milliseconds."""

    p50: float
    p95: float
    p99: float


class LastFailureAnswer(Answer):
    """The newest attempt that was not acknowledged."""

    attempt_id: int
    created_at: Time
    http_status_code: int | None
    failure: str | None
    error: str | None


class StatsAnswer(Answer):
    """An endpoint's last 24 hours. Test deliveries do not count; ``discarded`` attempts (due, but not made) count separately."""

    endpoint_id: int
    since: Time
    until: Time
    attempts: int
    succeeded: int
    failed: int
    discarded: int
    success_rate: float | None = Field(description="From 0 to 1; null if there are no attempts.")
    duration_ms: DurationAnswer | None
    last_failure: LastFailureAnswer | None
    buckets: list[BucketAnswer] = Field(description="24 hours, oldest first.")


class EventTypeVersionAnswer(Answer):
    """An earlier version of an event type that is still published: ``sample`` is a webhook body, ``json_schema`` describes it."""

    version: int
    sample: dict[str, Any]
    json_schema: dict[str, Any]


class EventTypeAnswer(Answer):
    """An event type: ``sample`` is a webhook body, ``json_schema`` describes such a body (JSON Schema 2020-12)."""

    name: str = Field(description="Types that were added after you loaded this document are not listed in its `EventType`.")
    description: str
    sample: dict[str, Any]
    json_schema: dict[str, Any]
    version: int = Field(default=1, description="The newest version: that of sample and json_schema.")
    versions: list[EventTypeVersionAnswer] = Field(
        default_factory=list, description="The earlier versions. An endpoint may pin one (event_type_versions)."
    )
    topic: str = Field(default="", description="Where its events are published, without the deployment's prefix.")
    origin: str = Field(default="built_in", description="built_in, file or api: only those of api can be changed here.")


class RemovedEventTypeAnswer(Answer):
    """An event type that was created with the API and removed. Its attempts can still be found by its name."""

    name: str
    removed_at: Time


class UnusableEventTypeAnswer(Answer):
    """An event type that was created with the API, but that this process cannot use as it was last written."""

    name: str
    problem: str


class EventTypesAnswer(Answer):
    """The current event types, and those that were created with the API but removed or are unusable."""

    event_types: list[EventTypeAnswer]
    removed_event_types: list[RemovedEventTypeAnswer] = Field(default_factory=list)
    unusable_event_types: list[UnusableEventTypeAnswer] = Field(
        default_factory=list, description="Such as one that is now in the file of event types."
    )


class EventTypeShown(Answer):
    """One event type."""

    event_type: EventTypeAnswer
    entry: dict[str, Any] | None = Field(
        description="As in a file of event types, and as PUT accepts it; null for a built-in event type."
    )
    updated_at: Time | None = Field(description="When it was last changed with the API; null for those of other origins.")


class EventTypeWritten(Answer):
    """The answer to a change. ``changes`` says what it means to producers and receivers, and for the topic."""

    event_type: EventTypeAnswer
    changes: list[str]


class EventTypeInput(StrictInput):
    """The member ``event_type`` of a request body: an entry as in the file of event types (docs/event-types.md)."""

    name: Any = Field(
        default=None, description="1 to 100 of a-z, 0-9 and _, beginning with a letter.", json_schema_extra={"type": "string"}
    )
    topic: Any = Field(
        default=None,
        description="Where its events are published, without the prefix: an existing topic, or one to create.",
        json_schema_extra={"type": "string"},
    )
    description: Any = Field(
        default=None, description="When the event is published, in a sentence.", json_schema_extra={"type": "string"}
    )
    payload_schema: Any = Field(
        default=None, alias="schema", description="JSON Schema of the payload.", json_schema_extra={"type": "object"}
    )
    sample: Any = Field(default=None, description="A payload that fits the schema.", json_schema_extra={"type": "object"})
    references: Any = Field(
        default=None, description="JSON pointers to the values that attempts are found by.", json_schema_extra={"type": "object"}
    )
    version: Any = Field(default=None, description="The version of the schema.", json_schema_extra={"type": "integer"})
    version_at: Any = Field(
        default=None, description="JSON pointer to the version in a payload.", json_schema_extra={"type": "string"}
    )
    earlier: Any = Field(
        default=None,
        description="Earlier versions that are still published, each with version, schema and sample.",
        json_schema_extra={"type": "array", "items": {"type": "object"}},
    )
    allow_breaking: StrictBool = Field(default=False, description="Make the change even if it breaks producers or receivers.")

    def entry(self) -> dict[str, Any]:
        """The given members, as an entry of the file."""
        return self.model_dump(by_alias=True, exclude_unset=True, exclude={"allow_breaking"})


class EventTypeBody(BaseModel):
    """The body of a create or a change."""

    event_type: EventTypeInput
