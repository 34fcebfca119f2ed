"""Dead letters in requests and answers of the HTTP API, and how they are published again."""

from __future__ import annotations

import base64
from typing import Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from schemas.http.answers import Answer, ListAnswer, Time
from schemas.http.strict_input import StrictInput


class DeadLetterAnswer(Answer):
    """A record that could not be used, why, and where it was. ``size`` is that of its value, in bytes."""

    id: int
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    failed_at: Time
    size: int
    repaired_at: Time | None = Field(default=None, description="When it was last published again or dismissed. null: never.")
    repaired_by: str | None = Field(default=None, description="Who published it again or dismissed it, by name.")
    dismissed: bool = Field(default=False, description="Whether it was dismissed, not published again.")


class BytesAnswer(Answer):
    """Bytes as received: text if they are UTF-8, otherwise base64."""

    content: str
    encoding: Literal["text", "base64"]


class HeaderAnswer(Answer):
    """A header of a Kafka record."""

    name: str
    value: BytesAnswer


class DeadLetterDetailAnswer(DeadLetterAnswer):
    """A dead letter with its bytes. ``value`` is null if the record's was."""

    key: BytesAnswer | None
    value: BytesAnswer | None
    headers: list[HeaderAnswer]


class DeadLetterListAnswer(ListAnswer):
    """A page of dead letters, newest first."""

    dead_letters: list[DeadLetterAnswer]


class BytesInput(StrictInput):
    """Bytes, as text or as base64."""

    content: str
    encoding: Literal["text", "base64"] = "text"

    def decoded(self) -> bytes:
        """The bytes.

        Raises:
            ValueError: the content is not base64; the text is a sentence.
        """
        if self.encoding == "text":
            return self.content.encode()
        try:
            return base64.b64decode(self.content, validate=True)
        except ValueError:
            raise ValueError("content is not base64.") from None


class RepairInput(StrictInput):
    """The member ``record`` of a request body: what is published instead. What is omitted stays as it was."""

    key: BytesInput | None = None
    value: BytesInput | None = None

    @field_validator("key", "value", mode="before")
    @classmethod
    def _are_wrapped(cls, given: object, info: ValidationInfo) -> object:
        if given is None or isinstance(given, BytesInput) or (isinstance(given, dict) and "content" in given):
            return given
        message = f'{info.field_name} must be bytes such as {{"content": "…", "encoding": "text"}}; or use base64.'
        raise ValueError(message)


class RepairBody(BaseModel):
    """The body of a re-publish; it may be omitted."""

    record: RepairInput = RepairInput()


class RepublishAnswer(Answer):
    """The published event. Kafka has acknowledged it, and the fan-out will read it."""

    event_id: str
    event_name: str
    topic: str
    partition: int
    offset: int
