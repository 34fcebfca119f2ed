"""Words pydantic's errors like our other messages, without values, which may be secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic_core import ErrorDetails

_OURS: Final = frozenset({"value_error", "assertion_error"})
_SENTENCES: Final[Mapping[str, str]] = {
    "missing": "It is required.",
    "string_type": "It must be text.",
    "bool_type": "It must be true or false.",
    "bool_parsing": "It must be true or false.",
    "int_type": "It must be a whole number.",
    "int_parsing": "It must be a whole number.",
    "int_parsing_size": "It must be a smaller whole number.",
    "int_from_float": "It must be a whole number.",
    "float_type": "It must be a number.",
    "float_parsing": "It must be a number.",
    "finite_number": "It must be a finite number.",
    "list_type": "It must be a list.",
    "tuple_type": "It must be a list.",
    "set_type": "It must be a list.",
    "dict_type": "It must be an object.",
    "model_type": "It must be an object.",
    "model_attributes_type": "It must be an object.",
    "greater_than_equal": "It must be {ge} or more.",
    "greater_than": "It must be more than {gt}.",
    "less_than_equal": "It must be {le} or less.",
    "less_than": "It must be less than {lt}.",
    "string_too_long": "It must have no more than {max_length} characters.",
    "too_long": "It must have no more than {max_length} entries.",
    "literal_error": "It must be {expected}.",
    "enum": "It must be {expected}.",
}
_TOO_SHORT: Final[Mapping[str, str]] = {"string_too_short": "characters", "too_short": "entries"}


def plain_sentence(finding: ErrorDetails) -> str | None:
    """A sentence about what a value must be; None if there is none for this kind of error, such as that of our own validator."""
    kind, facts = finding["type"], {name: _short(fact) for name, fact in finding.get("ctx", {}).items()}
    if kind in _TOO_SHORT:
        least = facts["min_length"]
        return "It must not be empty." if least == 1 else f"It must have {least} {_TOO_SHORT[kind]} or more."
    return _SENTENCES[kind].format_map(facts) if kind in _SENTENCES else None


def sentence_of(finding: ErrorDetails) -> str:
    """What is wrong with a value: the text of our validator's error, a plain sentence, or else pydantic's."""
    cause = finding.get("ctx", {}).get("error") if finding["type"] in _OURS else None
    return str(cause) if cause is not None else plain_sentence(finding) or finding["msg"]


def _short(fact: object) -> object:
    return int(fact) if isinstance(fact, float) and fact.is_integer() else fact
