"""Input models that also compile the filters, so that errors in filters are reported together with all others."""

from __future__ import annotations

from pydantic import field_validator

from pipeline.core.filters.stored import compiled
from pipeline.core.filters.tokens import FilterError
from schemas.http.endpoints import EndpointInput
from schemas.http.previews import PreviewInput


def _compilable(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        compiled(value)
    except FilterError as error:
        raise ValueError(filters_sentence(error)) from None
    return value


class CompilableEndpointInput(EndpointInput):
    """An EndpointInput that refuses filters that cannot be compiled."""

    _compile = field_validator("filters", mode="after")(_compilable)


class CompilablePreviewInput(PreviewInput):
    """A PreviewInput that refuses filters that cannot be compiled."""

    _compile = field_validator("filters", mode="after")(_compilable)


def filters_sentence(error: FilterError) -> str:
    """The sentence for the answer."""
    return f"filters: {error}"
