"""Values on their way to ClickHouse, beside the text of a statement. Pure."""

from __future__ import annotations

from typing import Any


class BoundValues:
    """Values on their way to the server, beside the statement."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, value: Any, type_name: str) -> str:
        """Bind a value; returns the placeholder that stands for it."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{type_name}}}"

    def time(self, milliseconds: int) -> str:
        """Bind a time: as a time, so that weeks that cannot match are left out."""
        return f"fromUnixTimestamp64Milli({self.add(milliseconds, 'Int64')}, 'UTC')"
