"""Wrapped request bodies such as ``{"endpoint": {…}}``, read and checked. Pure; no value stands in a message: it may be a secret."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
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
        InvalidError: it is not JSON, not wrapped, something stands beside the wrapped member, a field has a wrong value or is not known,
            or one that is ``required`` is missing.
    """
    document = parse_object(body, member, hint)
    if beside := names_beside(document, member):
        raise InvalidError({name: [f"There is no such member beside {member}. {hint}"] for name in beside})
    return validated(unwrapped(document, member, hint), model, required)


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


def names_beside(document: Mapping[str, object], member: str) -> list[str]:
    """What stands beside the wrapped member."""
    return some_names(name for name in document if name != member)


def some_names(names: Iterable[str]) -> list[str]:
    """Names that somebody made up, at most 20 of them, shortened."""
    return [name[:_SHOWN_CHARACTERS] for name in sorted(names)[:_SHOWN_FIELDS]]


def parse_object(body: bytes, member: str, hint: str) -> dict[str, Any]:
    """A JSON object in which no member stands twice. ``member`` is what is missing where it is something else.

    Raises:
        InvalidError: it is none.
    """
    try:
        document = msgspec.json.decode(body)
        # Of two members of one name, each reader takes another one.
        json.loads(body, object_pairs_hook=_once)
    except RecursionError:
        raise InvalidError({"body": ["The request body is nested too deeply."]}) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError({"body": [f"The request body is not JSON: {error}. {hint}"]}) from None
    if not isinstance(document, dict):
        raise InvalidError({member: [hint]})
    return document


def unwrapped(document: Mapping[str, Any], member: str, hint: str) -> dict[str, Any]:
    """The wrapped member.

    Raises:
        InvalidError: there is none, or it is no object.
    """
    wrapped = document.get(member)
    if not isinstance(wrapped, dict):
        raise InvalidError({member: [hint]})
    return wrapped


def _once(pairs: list[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    if twice := some_names({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise InvalidError({name: ["It stands twice in the request body; leave one of them out."] for name in twice})


def _sentences(error: ValidationError) -> dict[str, list[str]]:
    sentences: dict[str, list[str]] = {}
    for finding in error.errors(include_url=False, include_input=False):
        # The validators raise ValueErrors whose text is a sentence of ours; pydantic's own message would prefix it.
        cause = finding.get("ctx", {}).get("error", finding["msg"])
        if finding["type"] == "extra_forbidden":
            cause = f"There is no such member: {'.'.join(map(str, finding['loc']))[:_SHOWN_CHARACTERS]}."
        sentences.setdefault(str(finding["loc"][0])[:_SHOWN_CHARACTERS], []).append(str(cause))
    return sentences
