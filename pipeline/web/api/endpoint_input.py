"""The request body ``{"endpoint": {…}}``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Final

from pipeline.web.api.wrapped_input import names_beside, parse_object, some_names, unwrapped, validated
from pipeline.web.errors import InvalidError
from pipeline.web.filter_check import CompilableEndpointInput
from schemas.event_types import BUILT_IN, EventTypes
from schemas.http.endpoints import EndpointCreated, EndpointInput, EndpointWithAttempts

_MEMBER: Final = "endpoint"
_WRAPPER: Final = 'The fields of an endpoint must be wrapped: {"endpoint": {"target_url": "…", "events": ["…"]}}.'
_KNOWN: Final = frozenset({*EndpointInput.model_fields, *EndpointCreated.model_fields, *EndpointWithAttempts.model_fields})
"""The fields that are accepted, and the other fields of answers."""
_ALIKE: Final = 0.82
"""Names with at least this similarity (up to 1) count as a typo: ``order`` for ``ordered``, but not ``events_v2`` for ``events``."""
_COMPARED: Final = 50
_LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """The fields of an endpoint, and the names of unknown members.

    Unknown members are reported in ``ignored_fields`` and not refused, because clients send back members of earlier answers or of later
    releases. A name that is almost the name of a field is refused, because the intended change would not be made.
    """

    given: EndpointInput
    ignored: list[str]


def parse_endpoint(
    body: bytes, *, required: Collection[str] = (), types: EventTypes = BUILT_IN, is_strict: bool = False
) -> EndpointRequest:
    """Read a request body. ``is_strict``: nothing may be ignored.

    Raises:
        InvalidError: it is not JSON, not wrapped, a field has a wrong value or is misspelled, a ``required`` one is missing, or
            something would be ignored although the request is strict.
    """
    document = parse_object(body, _MEMBER, _WRAPPER)
    fields = unwrapped(document, _MEMBER, _WRAPPER)
    misspelt = {name: [f"There is no field {name}; did you mean {meant}?"] for name, meant in _misspelt(fields).items()}
    try:
        given = validated(fields, CompilableEndpointInput, required, types)
    except InvalidError as error:
        raise InvalidError(misspelt | dict(error.errors)) from None
    if misspelt:
        raise InvalidError(misspelt)
    ignored = some_names([*(given.model_extra or ()), *names_beside(document, _MEMBER)])
    if is_strict and ignored:
        raise InvalidError({name: ["It has no effect here, and with strict=1 that is an error."] for name in ignored})
    return EndpointRequest(given, ignored)


def _misspelt(names: Iterable[str]) -> dict[str, str]:
    """Names that are almost the name of a field, each with that field."""
    known = list(EndpointInput.model_fields)
    found = {}
    for name in islice((one for one in names if one not in _KNOWN and len(one) <= _LONGEST), _COMPARED):
        if meant := get_close_matches(name.lower().replace("-", "_"), known, 1, _ALIKE):
            found[name] = meant[0]
    return found
