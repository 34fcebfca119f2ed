"""The base class of request bodies that must not have unknown members."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictInput(BaseModel):
    """If unknown members were ignored, ``{"restore": {"dry-run": true}}`` would restore."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
