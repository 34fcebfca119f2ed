"""The common parts of the HTTP API's answers: times (ISO 8601 in UTC with milliseconds), errors, pages of lists."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from schemas.codec import format_time

Time = Annotated[
    datetime,
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class Answer(BaseModel):
    """The base class of answers. Answers are immutable."""

    model_config = ConfigDict(frozen=True)


class ErrorAnswer(Answer):
    """The body of every answer with a status of 400 or more."""

    error: str


class InvalidAnswer(ErrorAnswer):
    """422: ``errors`` has the sentences for each field."""

    errors: Mapping[str, list[str]]


class ListAnswer(Answer):
    """A page of a list."""

    count: int = Field(description="Number of items on this page.")
    total_count: int
    current_page: int
    pages: int
    per_page: int
    ignored_filters: list[str] = Field(description="The parts of the query that were ignored, with the reason.")
