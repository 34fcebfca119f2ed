"""The HTTP API's answers about attempts: one, lists, counts. Durations are milliseconds."""

from __future__ import annotations

from pydantic import (
    Field,
    computed_field,
)

from schemas.http.answers import Answer, ListAnswer, Time


class AttemptAnswer(Answer):
    """One attempt as shown in lists: without headers and bodies."""

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

    @computed_field(description="Always null: never shown. It exists for clients of the OMS's published API.")  # type: ignore[prop-decorator]
    @property
    def token(self) -> None:
        """No answer contains the endpoint's token."""
        return

    @computed_field(description="The webhook-id header of the request: the event's id.")  # type: ignore[prop-decorator]
    @property
    def idempotency_key(self) -> str:
        """Receivers recognize duplicates by it."""
        return self.event_id


class AttemptDetailAnswer(AttemptAnswer):
    """One attempt in full: the request, the response, and the event's other attempts at the same endpoint.

    ``request_body`` is text, because an event is JSON; it is null while the event is not in ClickHouse. ``response_body`` is
    base64 if its bytes are not UTF-8 (``response_body_encoding``). Headers contain no credentials. ``siblings``: newest first.
    """

    request_body: str | None
    request_headers: dict[str, str]
    response_body: str
    response_body_encoding: str
    response_truncated: bool
    response_headers: list[tuple[str, str]]
    siblings: list[AttemptAnswer]
    bodies_hidden: bool = Field(default=False, description="Both bodies are omitted, because the key's role may not view them.")


class AttemptListAnswer(ListAnswer):
    """A page of attempts. ``total_count`` is a lower bound when it is not exact (see docs/search.md)."""

    attempts: list[AttemptAnswer]
    total_count_is_exact: bool
    next_cursor: str | None = Field(description="The value of after= for the next page. null at the end.")
    sorted_since: Time | None = Field(
        description="If attempts are not sorted by time, and only the newest were sorted (total_count of them): the time of the "
        "oldest of those; null if all that the search finds were sorted."
    )


class MissedAttemptsAnswer(Answer):
    """What a stream did not send, because its connection was broken or its client too slow: from when to before when.

    ``count`` is null if it is not known, and a lower bound if it is not exact.
    """

    created_at_gteq: Time
    created_at_lt: Time
    count: int | None
    count_is_exact: bool


class EndpointCount(Answer):
    """Number of attempts for an endpoint."""

    endpoint_id: int
    count: int


class FacetsAnswer(Answer):
    """How many attempts a search finds: in total, by state, by event type and by endpoint, in descending order.

    If ``total_count_is_exact`` is false, only the newest attempts that it finds were counted: those since ``counted_since``.
    """

    total_count: int
    total_count_is_exact: bool
    counted_since: Time | None = Field(
        description="If only the newest attempts were counted: the time of the oldest of those; null if all were counted."
    )
    states: dict[str, int]
    events: dict[str, int]
    endpoints: list[EndpointCount]
    ignored_filters: list[str]


class HistogramBar(Answer):
    """An interval: when it begins, how many attempts were made in it, and how many of them failed."""

    begins_at: Time
    attempts: int
    failures: int


class HistogramAnswer(Answer):
    """When the attempts that a search finds were made: bars of the same width, oldest first, including empty ones.

    If only the newest attempts were counted, the bars begin at ``counted_since``, and the first bar covers a part of its time.
    """

    interval_seconds: int
    counted_since: Time | None = Field(
        description="If only the newest attempts were counted: the time of the oldest of those; null if all were counted."
    )
    bars: list[HistogramBar]
    ignored_filters: list[str]
