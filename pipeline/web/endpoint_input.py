"""The request body ``{"endpoint": {…}}``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pipeline.web.wrapped_input import parse_wrapped
from schemas.http_api import EndpointInput

_WRAPPER: Final = 'The fields of an endpoint must be wrapped: {"endpoint": {"target_url": "…", "events": ["…"]}}.'


def parse_endpoint(body: bytes, *, required: Collection[str] = ()) -> EndpointInput:
    """Read a request body.

    Raises:
        InvalidError: it is not JSON, not wrapped, a field has a wrong value, or one that is ``required`` is missing.
    """
    return parse_wrapped(body, "endpoint", EndpointInput, hint=_WRAPPER, required=required)
