"""What request bodies have in common that must not have a member that nobody knows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictInput(BaseModel):
    """A member that nobody knows would be one that has no effect: ``{"restore": {"dry-run": true}}`` would restore."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
