"""The HTTP API's models of the SQL console."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    Field,
    WithJsonSchema,
)

from schemas.http.answers import Answer

_PAIR: Final = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}


class SqlInput(BaseModel):
    """A statement for the embedded ClickHouse."""

    statement: str = Field(min_length=1, description="One SELECT, such as SELECT count() FROM attempt_history.")


class SqlAnswer(Answer):
    """The result of a SELECT: columns with name and type, rows as lists."""

    columns: list[Annotated[tuple[str, str], WithJsonSchema(_PAIR)]]
    rows: list[tuple[Any, ...]]
    seconds: float
