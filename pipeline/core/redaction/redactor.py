"""Removes an endpoint's secrets from its answers. Pure. There is one for each endpoint, and it never shows its secrets.

It runs for every delivery, so a cheap check usually decides: the whole answer is searched for the core of each form of each
secret. Only if one is found, or if letters are escaped, is the answer read as in :mod:`normalization`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Final

from pipeline.core.exchange import Exchange, Headers, NoResponse, Response
from pipeline.core.redaction.needles import Needle, needles_of_key, needles_of_value
from pipeline.core.redaction.normalization import NormalizedText, normalized_forms, normalized_texts, quick_scan, truncated_forms

REDACTED: Final = "[redacted]"
_MARK: Final = REDACTED.encode()
_MIN_CUT: Final = 3
"""At least this many bytes at the end of a cut-off answer are taken for the beginning of a secret."""
_MIN_CORE: Final = 3
_ENCODED: Final = "content-encoding"
_COMPRESSED: Final = (
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"x\x01",
    b"x\x5e",
    b"x\x9c",
    b"x\xda",
    b"PK\x03\x04",
    b"BZh",
    b"\xfd7zXZ",
)

_Span = tuple[int, int]


class Redactor:
    """The secrets of one endpoint, and their search terms, which are computed at the first answer."""

    __slots__ = ("_coreless", "_cores", "_keys", "_longest", "_needles", "_values")

    def __init__(self, values: Iterable[str] = (), keys: Iterable[str] = ()) -> None:
        """``values`` are a token and values of custom headers; ``keys`` are signing secrets."""
        self._values = tuple(values)
        self._keys = tuple(keys)
        self._needles: tuple[Needle, ...] | None = None

    def __repr__(self) -> str:
        return "Redactor(***)"

    def redact(self, exchange: Exchange) -> Exchange:
        """The exchange with :data:`REDACTED` in place of secrets, and of the beginning of a secret where a text was cut off."""
        head = "".join(chain.from_iterable(exchange.headers))
        broke_off = isinstance(exchange, NoResponse)
        if isinstance(exchange, NoResponse):
            head += exchange.detail
        else:
            broke_off = exchange.body_truncated
        whole = head.encode("utf-8", "surrogatepass") + exchange.body
        if exchange.body.startswith(_COMPRESSED) or (
            exchange.body and _ENCODED in head.lower() and _is_encoded(exchange.headers)
        ):
            exchange = replace(exchange, body=_withheld(exchange.body))
        if self._may_hold(whole):
            return self._searched(exchange, broke_off=broke_off)
        return replace(exchange, body=self._without_beginning(exchange.body)) if broke_off and exchange.body else exchange

    def _searched(self, exchange: Exchange, *, broke_off: bool) -> Exchange:
        headers = tuple((self._text(name), self._text(value)) for name, value in exchange.headers)
        body = self._cut(self._without_beginning(exchange.body) if broke_off else exchange.body)
        if isinstance(exchange, Response):
            return replace(exchange, headers=headers, body=body)
        return replace(exchange, headers=headers, body=body, detail=self._text(exchange.detail))

    def _prepared(self) -> tuple[Needle, ...]:
        if self._needles is None:
            found = [*map(needles_of_value, self._values), *map(needles_of_key, self._keys)]
            self._needles = tuple(sorted(set().union(*found), key=lambda needle: (-len(needle.text), needle.text)))
            self._cores = tuple({needle.core for needle in self._needles if len(needle.core) >= _MIN_CORE})
            # A value with few letters and digits looks different in each escape.
            self._coreless = tuple(needle.text for needle in self._needles if len(needle.core) < _MIN_CORE)
            self._longest = max((len(needle.text) for needle in self._needles), default=0)
        return self._needles

    def _may_hold(self, text: bytes) -> bool:
        if self._needles is None:
            self._prepared()
        quick, has_escapes, has_odd_ones = quick_scan(text)
        if has_odd_ones or (has_escapes and self._coreless):
            return True
        for core in self._cores:
            if core in quick:
                return True
        return any(text in quick for text in self._coreless) if self._coreless else False

    def _text(self, text: str) -> str:
        raw = text.encode("utf-8", "surrogatepass")
        return self._cut(raw).decode("utf-8", "replace") if self._may_hold(raw) else text

    def _cut(self, text: bytes) -> bytes:
        needles = self._prepared()
        if not any(needle.text in seen for seen in normalized_texts(text) for needle in needles):
            return text
        spans = [span for form in normalized_forms(text) for needle in needles for span in _found(form, needle)]
        return _without(text, spans) if spans else text

    def _without_beginning(self, text: bytes) -> bytes:
        # Each level of escapes turns a character into up to six bytes; deeper levels are not written in the long form.
        first = max(0, len(text) - 12 * self._longest - 64)
        tail = text[first:]
        starts = [
            form.starts[place]
            for form in truncated_forms(tail)
            for needle in self._prepared()
            if (place := _partial_match(form.text, needle.text)) is not None
        ]
        return text[: first + min(starts)] + _MARK if starts else text


def _found(form: NormalizedText, needle: Needle) -> Iterable[_Span]:
    text, size = form.text, len(needle.text)
    at = text.find(needle.text)
    while at >= 0:
        end = at + size
        if not needle.is_word or (_ends_word(form, at) and _ends_word(form, end)):
            yield form.starts[at], form.ends[end - 1]
        at = text.find(needle.text, at + 1)


def _ends_word(form: NormalizedText, at: int) -> bool:
    """Whether there is no letter or digit on one side of a position; removed white space separates too."""
    if at == 0 or at == len(form.text) or form.ends[at - 1] != form.starts[at]:
        return True
    return not (form.text[at - 1 : at].isalnum() and form.text[at : at + 1].isalnum())


def _partial_match(text: bytes, needle: bytes) -> int | None:
    """Where the text ends with a beginning of the needle; None if it does not."""
    beginning = needle[:_MIN_CUT]
    at = text.find(beginning, max(0, len(text) - len(needle) + 1))
    while at >= 0:
        if needle.startswith(text[at:]):
            return at
        at = text.find(beginning, at + 1)
    return None


def _without(text: bytes, spans: list[_Span]) -> bytes:
    pieces: list[bytes] = []
    at = 0
    for start, end in sorted(spans):
        if start >= at:
            pieces += (text[at:start], _MARK)
        at = max(at, end)
    return b"".join([*pieces, text[at:]])


def _is_encoded(headers: Headers) -> bool:
    return any(name.lower() == _ENCODED and value.strip().lower() not in ("", "identity") for name, value in headers)


def _withheld(body: bytes) -> bytes:
    """What is kept of a body that is declared as compressed: all of it if it is text, otherwise a sentence."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return (
            f"[a compressed answer, {len(body):,} bytes: it is not kept, as secrets in it cannot be found; answer without "
            "Content-Encoding]"
        ).encode()
    return body
