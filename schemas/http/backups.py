"""Backups of endpoints as the HTTP API accepts them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    InstanceOf,
    field_validator,
)

from schemas.codec import InvalidRecordError, from_json
from schemas.endpoint import EndpointRecord
from schemas.http.answers import Answer
from schemas.http.strict_input import StrictInput
from schemas.own_records import json_schema

MAX_RESTORED: Final = 50


class _LineSchema:
    """The JSON Schema of a line of a backup, generated on demand."""

    def __get_pydantic_json_schema__(self, _schema: object, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return json_schema(EndpointRecord)


_Line = Annotated[InstanceOf[EndpointRecord], _LineSchema()]


class RestoreInput(StrictInput):
    """The member ``restore`` of a request body: lines of a backup."""

    model_config = ConfigDict(json_schema_extra={"required": ["endpoints"]})

    endpoints: tuple[_Line, ...] = Field(
        default=(), description="Lines of the backup.", json_schema_extra={"minItems": 1, "maxItems": MAX_RESTORED}
    )
    overwrite: bool = Field(default=False, description="Also change existing endpoints that differ.")
    dry_run: bool = Field(default=False, description="Only report what would be done.")

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
    if not isinstance(line, dict):
        raise ValueError(f"endpoints: number {number} is not the record of an endpoint: it is not a JSON object.")  # noqa: TRY004 - a finding
    try:
        return from_json(json.dumps(line).encode(), EndpointRecord)
    except RecursionError:
        problem = "The line is nested too deeply."
    except InvalidRecordError as error:
        problem = str(error)
    raise ValueError(f"endpoints: number {number} is not the record of an endpoint: {problem}")


class RestoreBody(BaseModel):
    """The body of a restore."""

    restore: RestoreInput


class RestoredEndpoint(Answer):
    """The result for one endpoint. ``id`` is its id in the backup, ``restored_as`` its id here (null: a new one, or none)."""

    id: int
    target_url: str
    step: Literal["create", "update", "keep", "none", "refuse"]
    restored_as: int | None
    differences: list[str] = Field(description="Names of the fields that differ.")
    reason: str


class RestoreAnswer(Answer):
    """The result for each endpoint, in the order of the request. In a dry run: the expected result."""

    restored: list[RestoredEndpoint]
