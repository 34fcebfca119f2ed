"""The request body ``{"endpoint": {…}}``, read and checked. Pure; values never stand in a message where they could be secret."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from pipeline.web.errors import InvalidError
from schemas.http_api import EndpointInput

_WRAPPER: Final = 'The fields of an endpoint must be wrapped: {"endpoint": {"target_url": "…", "events": ["…"]}}.'
_SHOWN_FIELDS: Final = 20
_SHOWN_CHARACTERS: Final = 50


def parse_endpoint(body: bytes, *, required: Collection[str] = ()) -> EndpointInput:
    """Read a request body.

    Raises:
        InvalidError: it is not JSON, not wrapped, a field has a wrong value, or one that is ``required`` is missing.
    """
    given = _unwrapped(body)
    errors = {name: [f"{name} is required."] for name in required if name not in given}
    try:
        endpoint = EndpointInput.model_validate(given)
    except ValidationError as error:
        raise InvalidError(errors | _sentences(error)) from None
    if errors:
        raise InvalidError(errors)
    return endpoint


def ignored_fields(given: EndpointInput) -> list[str]:
    """The names of members that an endpoint does not have, at most 20 of them, shortened."""
    names = sorted(given.model_extra or ())
    return [name[:_SHOWN_CHARACTERS] for name in names[:_SHOWN_FIELDS]]


def _unwrapped(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidError({"body": ["The request body is nested too deeply."]}) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError({"body": [f"The request body is not JSON: {error}. {_WRAPPER}"]}) from None
    endpoint = document.get("endpoint") if isinstance(document, dict) else None
    if not isinstance(endpoint, dict):
        raise InvalidError({"endpoint": [_WRAPPER]})
    return endpoint


def _sentences(error: ValidationError) -> dict[str, list[str]]:
    sentences: dict[str, list[str]] = {}
    for finding in error.errors(include_url=False, include_input=False):
        # The validators raise ValueErrors whose text is a sentence of ours; pydantic's own message would prefix it.
        cause = finding.get("ctx", {}).get("error", finding["msg"])
        sentences.setdefault(str(finding["loc"][0]), []).append(str(cause))
    return sentences
