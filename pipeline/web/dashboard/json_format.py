"""JSON with line breaks and indentation. Pure: only whitespace changes; numbers, escapes and the order of members stay the same."""

from __future__ import annotations

import json
import re
from typing import Final

JSON_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_INDENT: Final = "  "
_DEEPEST: Final = 100
"""The most levels to indent. Without a limit, nested brackets would make the text grow quadratically."""


def pretty(text: str) -> str:
    """The text, indented if it is JSON, otherwise unchanged."""
    return "".join(_laid_out(JSON_TOKEN.findall(text))) if is_json(text) else text


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _laid_out(tokens: list[str]) -> list[str]:
    parts: list[str] = []
    depth = 0
    for position, token in enumerate(tokens):
        following = tokens[position + 1] if position + 1 < len(tokens) else ""
        if token in "{[":
            depth += 1
            parts += [token, "" if following in ("}", "]") else _line(depth)]
        elif token in "}]":
            depth -= 1
            is_empty = position > 0 and tokens[position - 1] in ("{", "[")
            parts += ["" if is_empty else _line(depth), token]
        elif token == ",":
            parts += [token, _line(depth)]
        else:
            parts += [": "] if token == ":" else [token]
    return parts


def _line(depth: int) -> str:
    return "\n" + _INDENT * min(depth, _DEEPEST)
