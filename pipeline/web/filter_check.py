"""An endpoint's fields as the API takes them: their filters are compiled, so that what is wrong is told with everything else."""

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
    """The same fields. Filters that cannot be compiled are refused."""

    _compile = field_validator("filters", mode="after")(_compilable)


class CompilablePreviewInput(PreviewInput):
    """The same for a preview."""

    _compile = field_validator("filters", mode="after")(_compilable)


def filters_sentence(error: FilterError) -> str:
    """What is wrong, as the answer says it."""
    return f"filters: {error}"
