"""Reads and checks wrapped request bodies such as ``{"endpoint": {…}}``. Pure. Messages contain no values, which may be secret."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from pipeline.web.errors import InvalidError
from schemas.event_types import BUILT_IN, EventTypes
from schemas.validation_sentences import plain_sentence, sentence_of

ModelT = TypeVar("ModelT", bound=BaseModel)

_SHOWN_FIELDS: Final = 20
_SHOWN_CHARACTERS: Final = 50


def parse_wrapped(
    body: bytes, member: str, model: type[ModelT], *, hint: str, required: Collection[str] = (), types: EventTypes = BUILT_IN
) -> ModelT:
    """Read the ``member`` of a request body. ``hint`` says what the body must look like; ``types`` are the known event types.

    Raises:
        InvalidError: it is not JSON, not wrapped, it has members besides the wrapped one, a field has a wrong value or is unknown,
            or a ``required`` one is missing.
    """
    document = parse_object(body, member, hint)
    if beside := names_beside(document, member):
        raise InvalidError({name: [f"Unknown field beside {member}. {hint}"] for name in beside})
    return validated(unwrapped(document, member, hint), model, required, types)


def validated(
    given: Mapping[str, object], model: type[ModelT], required: Collection[str] = (), types: EventTypes = BUILT_IN
) -> ModelT:
    """Check the fields of a request body or a form.

    Raises:
        InvalidError: a field has a wrong value, or a ``required`` one is missing.
    """
    errors = {name: [f"{name} is required."] for name in required if name not in given}
    try:
        read = model.model_validate(given, context=types)
    except ValidationError as error:
        raise InvalidError(errors | _sentences(error)) from None
    if errors:
        raise InvalidError(errors)
    return read


def names_beside(document: Mapping[str, object], member: str) -> list[str]:
    """The names of members besides the wrapped one."""
    return some_names(name for name in document if name != member)


def some_names(names: Iterable[str]) -> list[str]:
    """At most 20 of the names, shortened, because clients may send any names."""
    return [name[:_SHOWN_CHARACTERS] for name in sorted(names)[:_SHOWN_FIELDS]]


def parse_object(body: bytes, member: str, hint: str) -> dict[str, Any]:
    """A JSON object without duplicate members.

    Raises:
        InvalidError: it is something else. If it is other JSON, ``hint`` is reported for ``member``.
    """
    try:
        document = msgspec.json.decode(body)
        # Parsers disagree about which of two members with the same name counts.
        json.loads(body, object_pairs_hook=_once)
    except RecursionError:
        raise InvalidError({"body": ["The request body is nested too deeply."]}) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidError({"body": [f"The request body is not JSON: {_why_no_json(body)}. {hint}"]}) from None
    if not isinstance(document, dict):
        raise InvalidError({member: [hint]})
    return document


def unwrapped(document: Mapping[str, Any], member: str, hint: str) -> dict[str, Any]:
    """The wrapped member.

    Raises:
        InvalidError: it is missing, or not an object.
    """
    wrapped = document.get(member)
    if not isinstance(wrapped, dict):
        raise InvalidError({member: [hint]})
    return wrapped


def _once(pairs: list[tuple[str, object]]) -> None:
    if twice := some_names(name for name, count in Counter(name for name, _ in pairs).items() if count > 1):
        raise InvalidError({name: ["It occurs twice in the request body. Remove one of them."] for name in twice})


def _why_no_json(body: bytes) -> str:
    """The reason in plain words, with line and column. The body is not quoted."""
    if not body.strip():
        return "it is empty"
    if body.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark; save it as UTF-8 without one"
    try:
        text = body.decode()
        json.loads(text)
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} is not UTF-8"
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()):
            return "it ends too early"
        return f"line {error.lineno}, column {error.colno} is not valid JSON"
    except (RecursionError, ValueError):  # for example, a number with thousands of digits
        pass
    return "a number in it is too large, is NaN or Infinity, or a text has half of a surrogate pair"


def _sentences(error: ValidationError) -> dict[str, list[str]]:
    sentences: dict[str, list[str]] = {}
    for finding in error.errors(include_url=False, include_input=False):
        place = ".".join(map(str, finding["loc"]))[:_SHOWN_CHARACTERS]
        if finding["type"] == "extra_forbidden":
            cause = f"Unknown field: {place}."
        elif plain := plain_sentence(finding):
            cause = f"{place} {plain.removeprefix('It ')}"  # the same start as the sentences of our validators
        else:
            cause = sentence_of(finding)
        sentences.setdefault(str(finding["loc"][0])[:_SHOWN_CHARACTERS], []).append(cause)
    return sentences
