"""The HTTP API's answers about runs that resend the failed notifications of a search."""

from __future__ import annotations

from pydantic import Field

from schemas.audit import RunState
from schemas.http.answers import Answer, Time
from schemas.http.attempts import EndpointCount


class ResendPreviewAnswer(Answer):
    """The size of a run: the number of notifications (an event for an endpoint), and of their failed attempts."""

    notifications: int
    attempts: int
    is_complete: bool = Field(description="False if there are more than a run may send: narrow the filters.")
    endpoints: list[EndpointCount] = Field(description="Notifications by endpoint, in descending order.")
    ignored_filters: list[str]


class ResendRunAnswer(Answer):
    """A run. Deliveries that count as ``resent`` were acknowledged by Kafka: they will be made even if processes die.

    ``delivered``: not sent again, because the endpoint had acknowledged them by then. ``skipped``: they could not be sent again
    (endpoint deleted or paused, body gone). ``stopped``: its process ended, or has not reported for a minute, or another run was
    in progress, or the recorder is behind (``problem`` says which); start it again with the same filters.
    """

    id: str
    state: RunState
    started_by: str
    started_at: Time
    heard_at: Time = Field(description="When it last recorded its progress.")
    total: int
    resent: int
    delivered: int
    skipped: int
    last_attempt_id: int | None = Field(description="The last processed attempt. The order is from oldest to newest.")
    problem: str


class ResendRunsAnswer(Answer):
    """The last runs, newest first."""

    runs: list[ResendRunAnswer]
