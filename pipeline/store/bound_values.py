"""The bound values of a statement, which are sent separately from its text. Pure."""

from __future__ import annotations

from typing import Any


class BoundValues:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, value: Any, type_name: str) -> str:
        """Bind a value; returns the placeholder that stands for it."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{type_name}}}"

    def time(self, milliseconds: int) -> str:
        """Bind a time with a time type, so that ClickHouse skips weeks that cannot match."""
        return f"fromUnixTimestamp64Milli({self.add(milliseconds, 'Int64')}, 'UTC')"
