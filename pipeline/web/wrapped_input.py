"""Wrapped request bodies such as ``{"endpoint": {…}}``, read and checked. Pure; no value stands in a message: it may be a secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from pipeline.web.errors import InvalidError

ModelT = TypeVar("ModelT", bound=BaseModel)

_SHOWN_FIELDS: Final = 20
_SHOWN_CHARACTERS: Final = 50


def parse_wrapped(body: bytes, member: str, model: type[ModelT], *, hint: str, required: Collection[str] = ()) -> ModelT:
    """Read the ``member`` of a request body. ``hint`` says what such a body looks like.

    Raises:
        InvalidError: it is not JSON, not wrapped, a field has a wrong value, or one that is ``required`` is missing.
    """
    return validated(_unwrapped(body, member, hint), model, required)


def validated(given: Mapping[str, object], model: type[ModelT], required: Collection[str] = ()) -> ModelT:
    """Check fields, wherever they come from.

    Raises:
        InvalidError: a field has a wrong value, or one that is ``required`` is missing.
    """
    errors = {name: [f"{name} is required."] for name in required if name not in given}
    try:
        read = model.model_validate(given)
    except ValidationError as error:
        raise InvalidError(errors | _sentences(error)) from None
    if errors:
        raise InvalidError(errors)
    return read


def ignored_fields(given: BaseModel) -> list[str]:
    """The names of members that mean nothing, at most 20 of them, shortened."""
    names = sorted(given.model_extra or ())
    return [name[:_SHOWN_CHARACTERS] for name in names[:_SHOWN_FIELDS]]


def _unwrapped(body: bytes, member: str, hint: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidError({"body": ["The request body is nested too deeply."]}) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError({"body": [f"The request body is not JSON: {error}. {hint}"]}) from None
    wrapped = document.get(member) if isinstance(document, dict) else None
    if not isinstance(wrapped, dict):
        raise InvalidError({member: [hint]})
    return wrapped


def _sentences(error: ValidationError) -> dict[str, list[str]]:
    sentences: dict[str, list[str]] = {}
    for finding in error.errors(include_url=False, include_input=False):
        # The validators raise ValueErrors whose text is a sentence of ours; pydantic's own message would prefix it.
        cause = finding.get("ctx", {}).get("error", finding["msg"])
        sentences.setdefault(str(finding["loc"][0]), []).append(str(cause))
    return sentences
