"""Reads filters in either input form (expressions, or paths with accepted values) as expressions. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

FilterValue = str | int | float | bool | None

MAX_FILTERS: Final = 20
MAX_FILTER_PATHS: Final = 50
MAX_FILTER_LENGTH: Final = 2000
MAX_FILTER_VALUES: Final = 100
MAX_FILTER_PATH: Final = 255
MAX_FILTER_TEXT: Final = 1000

KEYWORDS: Final = frozenset({"false", "in", "null", "true"})
"""Words that the expression language does not accept as a member's name."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILTERS_FORM: Final = 'filters must be a list of expressions, such as ["data.channel == \\"spree\\""]'
_PATHS_FORM: Final = (
    'filters must be expressions, or an object of paths in the payload with their values, such as {"channel": ["spree"]}'
)


def expressions_of(filters: Mapping[str, Sequence[FilterValue]]) -> tuple[str, ...]:
    """One expression for each path: ``{"channel": ["spree"]}`` becomes ``data.channel == "spree"``; several values, ``in``."""
    return tuple(_expression(path, values) for path, values in filters.items())


def _expression(path: str, values: Sequence[FilterValue]) -> str:
    place = "data" + "".join(map(_member, path.split(".")))
    if len(values) == 1:
        return f"{place} == {_literal(values[0])}"
    return f"{place} in [{', '.join(map(_literal, values))}]"


def _member(name: str) -> str:
    return f".{name}" if _NAME.fullmatch(name) and name not in KEYWORDS else f"[{_literal(name)}]"


def _literal(value: FilterValue) -> str:
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def check_filters(value: object) -> tuple[str, ...]:
    """Filters in either form, as expressions. Does not check whether they can be compiled.

    Raises:
        ValueError: they have neither form; the text is a sentence.
    """
    if value is None:
        return ()
    if isinstance(value, dict):
        if len(value) > MAX_FILTER_PATHS:
            raise ValueError(f"{_PATHS_FORM}; at most {MAX_FILTER_PATHS} of them.")
        return expressions_of({_filter_path(path): _filter_values(path, values) for path, values in value.items()})
    if not isinstance(value, list | tuple) or len(value) > MAX_FILTERS:
        raise ValueError(f"{_FILTERS_FORM}; at most {MAX_FILTERS} of them.")
    for text in value:
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_FILTER_LENGTH:
            raise ValueError(f"{_FILTERS_FORM}; each is a text of 1 to {MAX_FILTER_LENGTH} characters.")
    return tuple(text.strip() for text in value)


def _filter_path(path: str) -> str:
    if not all(path.split(".")) or len(path) > MAX_FILTER_PATH:
        rule = f"member names joined by dots, at most {MAX_FILTER_PATH} characters"
        raise ValueError(f"{_PATHS_FORM}; {path[:50]!r} is not a path: {rule}.")
    return path


def _filter_values(path: str, value: object) -> tuple[FilterValue, ...]:
    values = value if isinstance(value, list) else [value]
    scalars = [scalar for scalar in values if scalar is None or isinstance(scalar, str | int | float)]
    if not 1 <= len(values) <= MAX_FILTER_VALUES or len(scalars) < len(values):
        form = f"a string, a number, true, false or null, or a list of 1 to {MAX_FILTER_VALUES} of them"
        raise ValueError(f"filters must give {path[:50]!r} {form}.")
    if any(isinstance(scalar, float) and not math.isfinite(scalar) for scalar in scalars):
        raise ValueError(f"filters must give {path[:50]!r} numbers that JSON can hold: not NaN, not infinity.")
    if any(isinstance(scalar, str) and len(scalar) > MAX_FILTER_TEXT for scalar in scalars):
        raise ValueError(f"filters must give {path[:50]!r} texts of at most {MAX_FILTER_TEXT} characters.")
    return tuple(scalars)


def filters_schema(schema: dict[str, Any]) -> None:
    """A list of expressions, or the other accepted form."""
    texts = {"type": "array", "items": {"type": "string", "maxLength": MAX_FILTER_LENGTH}, "maxItems": MAX_FILTERS}
    paths = {"type": "object", "maxProperties": MAX_FILTER_PATHS}
    for name in ("type", "items", "default"):
        schema.pop(name, None)
    schema["anyOf"] = [texts, paths, {"type": "null"}]
