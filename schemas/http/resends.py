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
    is_complete: bool = Field(description="False when there are more than a run may send: narrow the filters.")
    endpoints: list[EndpointCount] = Field(description="Notifications by endpoint, the most first.")
    ignored_filters: list[str]


class ResendRunAnswer(Answer):
    """A run. What counts as ``resent`` was acknowledged by Kafka, and will be made whatever dies.

    ``delivered``: left out, as the endpoint had acknowledged it by then. ``skipped``: it could not be sent again (endpoint deleted or
    paused, body gone). ``stopped``: its process ended, or has not been heard of for a minute; start it again with the same filters.
    """

    id: str
    state: RunState
    started_by: str
    started_at: Time
    heard_at: Time = Field(description="When it last put on record how far it had come.")
    total: int
    resent: int
    delivered: int
    skipped: int
    last_attempt_id: int | None = Field(
        description="The last attempt that was processed. The order is from the oldest to the newest."
    )
    problem: str


class ResendRunsAnswer(Answer):
    """The last runs, the newest first."""

    runs: list[ResendRunAnswer]
