"""JSON as the encoders of other languages write it by default, each with its escapes.

tests/examples/test_json_encoders.py compares them with the real ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

Encoder = Callable[[Any], str]

_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_LINE_SEPARATORS: Final = "\u2028\u2029"


def _unit(number: int, *, upper: bool = False) -> str:
    return f"\\u{number:04X}" if upper else f"\\u{number:04x}"


def _units(character: str, *, upper: bool = False) -> str:
    raw = character.encode("utf-16-be")
    return "".join(_unit(int.from_bytes(raw[at : at + 2], "big"), upper=upper) for at in range(0, len(raw), 2))


def _encoder(also: str = "", *, ascii_only: bool = False, upper: bool = False, short: Mapping[str, str] = _SHORT) -> Encoder:
    """``also``: characters to escape besides quotes, backslashes and control characters."""

    def character(one: str) -> str:
        if one in short:
            return short[one]
        is_escaped = one < " " or one in also or (ascii_only and one > "\x7f")
        return _units(one, upper=upper) if is_escaped else one

    def text(value: str) -> str:
        return '"' + "".join(map(character, value)) + '"'

    def encode(value: Any) -> str:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, dict):
            return "{" + ",".join(f"{text(key)}:{encode(one)}" for key, one in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(encode, value)) + "]"
        return json.dumps(value)

    return encode


def _hostile(value: Any) -> str:
    """Valid JSON as no encoder writes it: any character may be an escape, even letters, with digits in either case."""
    chance = random.Random(json.dumps(value))

    def character(one: str) -> str:
        if chance.random() < 0.3:
            return "".join(chance.choice((digit, digit.upper())) if digit != "u" else digit for digit in _units(one))
        return json.dumps(one, ensure_ascii=False)[1:-1]

    def encode(part: Any) -> str:
        if isinstance(part, str):
            return '"' + "".join(map(character, part)) + '"'
        if isinstance(part, dict):
            return "{" + " ,\n\t".join(f"{encode(key)} : {encode(one)}" for key, one in part.items()) + "}"
        if isinstance(part, list):
            return "[ " + " , ".join(map(encode, part)) + "\r\n]"
        return json.dumps(part)

    return encode(value)


ENCODERS: Final[dict[str, Encoder]] = {
    "python": json.dumps,
    "ruby": _encoder(),
    "rails": _encoder("<>&" + _LINE_SEPARATORS),
    "php": _encoder(ascii_only=True, short=_SHORT | {"/": "\\/"}),
    "go": _encoder("<>&" + _LINE_SEPARATORS),
    "jackson": _encoder(upper=True),
    "gson": _encoder("<>&='" + _LINE_SEPARATORS),
}
"""By name: ``json.dumps``, ``JSON.generate``, ActiveSupport's ``to_json``, ``json_encode``, ``json.Marshal``, ObjectMapper, Gson."""

ALL_ENCODERS: Final = ENCODERS | {"hostile": _hostile}
