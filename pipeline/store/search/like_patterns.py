"""LIKE patterns for literal texts and for texts with wildcards. Pure."""

from __future__ import annotations

import re
from typing import Final

from pipeline.core.search import Predicate

SHAPES: Final = {
    Predicate.CONT: "%{}%",
    Predicate.I_CONT: "%{}%",
    Predicate.START: "{}%",
    Predicate.END: "%{}",
    Predicate.MATCHES: "{}",
}
"""The patterns of predicates; ``{}`` is the text."""
_ESCAPED: Final = re.compile(r"\\(.)?", re.DOTALL)
_LITERAL: Final = re.compile(r"((?:\\.|[^\\%_])+)|.", re.DOTALL)


def like_pattern(text: str, shape: str = "%{}%") -> str:
    """A LIKE pattern that finds ``text`` literally: ``%``, ``_`` and the backslash have no special meaning."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return shape.replace("{}", escaped)


def wildcard_pattern(text: str) -> str:
    """The pattern of ``matches`` for ClickHouse's LIKE: a backslash makes the next character literal."""
    return _ESCAPED.sub(lambda found: like_pattern(found[1] or "\\", "{}"), text)


def literals(pattern: str) -> tuple[str, ...]:
    """The literal texts between the wildcards of ``matches``."""
    found = (match[1] for match in _LITERAL.finditer(pattern))
    return tuple(re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) for text in found if text)
