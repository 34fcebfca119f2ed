"""The request body ``{"endpoint": {…}}``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from pipeline.web.wrapped_input import names_beside, parse_object, some_names, unwrapped, validated
from schemas.http_api import EndpointInput

_MEMBER: Final = "endpoint"
_WRAPPER: Final = 'The fields of an endpoint must be wrapped: {"endpoint": {"target_url": "…", "events": ["…"]}}.'


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """The fields of an endpoint, and the names of members that mean nothing.

    These are reported in ``ignored_fields`` and not refused: who changes an endpoint sends back what an earlier answer or a later release
    has.
    """

    given: EndpointInput
    ignored: list[str]


def parse_endpoint(body: bytes, *, required: Collection[str] = ()) -> EndpointRequest:
    """Read a request body.

    Raises:
        InvalidError: it is not JSON, not wrapped, a field has a wrong value, or one that is ``required`` is missing.
    """
    document = parse_object(body, _MEMBER, _WRAPPER)
    given = validated(unwrapped(document, _MEMBER, _WRAPPER), EndpointInput, required)
    return EndpointRequest(given, some_names([*(given.model_extra or ()), *names_beside(document, _MEMBER)]))
