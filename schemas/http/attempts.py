"""The HTTP API's answers about attempts: one, lists, counts. Times are ISO 8601 in UTC with milliseconds; durations are milliseconds."""

from __future__ import annotations

from pydantic import (
    Field,
    computed_field,
)

from schemas.http.answers import Answer, ListAnswer, Time


class AttemptAnswer(Answer):
    """One attempt, as lists show it: without headers and bodies."""

    id: int
    event_id: str
    event_name: str
    event_created_at: Time
    endpoint_id: int
    target_url: str
    state: str
    outcome: str
    attempt: int
    trigger: str
    http_status_code: int | None
    failure: str | None
    error: str | None
    duration_ms: float
    first_byte_ms: float | None
    created_at: Time
    next_attempt_at: Time | None
    order_number: str | None
    shipment_numbers: list[str]
    subscription_id: str | None
    stock_item_id: int | None
    skus: list[str]

    @computed_field(description="Never shown: always null. It is there for clients of the OMS's published API.")  # type: ignore[prop-decorator]
    @property
    def token(self) -> None:
        """The endpoint's token stands in no answer."""
        return

    @computed_field(description="The webhook-id header of the request: the event's id.")  # type: ignore[prop-decorator]
    @property
    def idempotency_key(self) -> str:
        """By it a receiver knows that it has a notification already."""
        return self.event_id


class AttemptDetailAnswer(AttemptAnswer):
    """One attempt with everything: what was sent, what was answered, and the event's other attempts at the same endpoint.

    ``request_body`` is null while the event is not in ClickHouse. It is text: an event is JSON, so it is UTF-8. ``response_body``
    is base64 of bytes that are not (``response_body_encoding``). Headers hold no credentials. ``siblings``: newest first.
    """

    request_body: str | None
    request_headers: dict[str, str]
    response_body: str
    response_body_encoding: str
    response_truncated: bool
    response_headers: list[tuple[str, str]]
    siblings: list[AttemptAnswer]
    bodies_hidden: bool = Field(default=False, description="Both bodies are left out: the key's role may not see them.")


class AttemptListAnswer(ListAnswer):
    """A page of attempts. ``total_count`` is a lower bound when it is not exact (see docs/search.md)."""

    attempts: list[AttemptAnswer]
    total_count_is_exact: bool
    next_cursor: str | None = Field(description="The value of after= for the next page. null at the end.")
    sorted_since: Time | None = Field(
        description="In another order than that of time: when the oldest attempt was made that was sorted, where only the newest "
        "were (total_count of them); null when all that the search finds were sorted."
    )


class EndpointCount(Answer):
    """Number of attempts for an endpoint."""

    endpoint_id: int
    count: int


class FacetsAnswer(Answer):
    """How many attempts a search finds: in total, by state, by event type and by endpoint, in descending order.

    When ``total_count_is_exact`` is false, these are the counts of the newest attempts that it finds: those since ``counted_since``.
    """

    total_count: int
    total_count_is_exact: bool
    counted_since: Time | None = Field(
        description="When the oldest attempt was made that was counted, where only the newest were; null when all were counted."
    )
    states: dict[str, int]
    events: dict[str, int]
    endpoints: list[EndpointCount]
    ignored_filters: list[str]


class HistogramBar(Answer):
    """A stretch of time: when it begins, how many attempts were made in it, and how many of them failed."""

    begins_at: Time
    attempts: int
    failures: int


class HistogramAnswer(Answer):
    """When the attempts were made that a search finds: bars of the same width, the oldest first, empty ones included.

    Where only the newest attempts were counted, the bars begin at ``counted_since``, and the first one holds a part of its time.
    """

    interval_seconds: int
    counted_since: Time | None = Field(
        description="When the oldest attempt was made that was counted, where only the newest were; null when all were counted."
    )
    bars: list[HistogramBar]
    ignored_filters: list[str]
