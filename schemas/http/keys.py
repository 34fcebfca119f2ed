"""API keys in requests and answers of the HTTP API."""

from __future__ import annotations

import re
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.api_key import Access
from schemas.http.answers import Answer, Time
from schemas.http.strict_input import StrictInput

MAX_KEY_NAME: Final = 100
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Line breaks and bidirectional controls: with them, one key in a list could pass for another."""


class KeyInput(StrictInput):
    """The member ``key`` of a request body."""

    name: str = Field(
        default="", description="What the key is for.", json_schema_extra={"minLength": 1, "maxLength": MAX_KEY_NAME}
    )
    role: Access = Field(
        default=Access.VIEWER, description="The role of the key. Each role includes the rights of the roles before it."
    )
    owner: str = Field(
        default="",
        description="The person responsible for the key, shown in the audit log and the dashboard. Empty: the name of the key is used.",
        json_schema_extra={"maxLength": MAX_KEY_NAME},
    )

    @field_validator("owner", mode="before")
    @classmethod
    def _check_owner(cls, value: object) -> str:
        text = "" if value is None else value
        if isinstance(text, str) and len(text) <= MAX_KEY_NAME and not _CONTROL.search(text):
            return text.strip()
        raise ValueError(f"owner must be text of at most {MAX_KEY_NAME} characters, without line breaks.")

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
    """A key to create."""

    model_config = ConfigDict(json_schema_extra={"required": ["name", "role"]})


class KeyBody(BaseModel):
    """The body of a create."""

    key: NewKey


class KeyAnswer(Answer):
    """An API key. ``id`` also names it in audits (``api-key:<id>``)."""

    id: str
    name: str
    role: Access
    created_at: Time
    created_by: str
    owner: str = Field(default="", description="The person responsible for the key.")
    last_used_at: Time | None = Field(
        default=None, description="When it was last used. Uses in other processes within the last hour may be missing."
    )


class KeyCreated(KeyAnswer):
    """The answer to a create. No other answer shows the ``key``."""

    key: str


class KeysAnswer(Answer):
    """The valid keys, without those of the setting ``api_keys``."""

    keys: list[KeyAnswer]
