"""What to look for in an answer: a secret, and the forms in which a program may show it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.core.redaction.normalization import normalized, normalized_texts

_LEAST: Final = 4
"""Characters. Shorter values occur in too many answers by chance."""
_ANYWHERE: Final = 8
"""A value of at least this many characters is removed anywhere; a shorter one only as a whole word."""
_MIN_PART: Final = 12
"""The minimum characters of a part of a value, such as a cookie's. `_ANYWHERE` are enough if it has a digit."""
_ORDINARY: Final = frozenset(
    (
        b"true false null none auto default enabled disabled production staging development testing sandbox "
        b"json text html utf-8 gzip deflate identity close keep-alive no-cache no-store max-age=0 "
        b"application/json application/xml text/plain text/html application/json;charset=utf-8 text/plain;charset=utf-8 "
        b"*/* bearer basic post webhook webhooks oms-webhooks"
    ).split()
)
"""Values that are not secrets and appear in many answers."""
_NUMBER: Final = re.compile(rb"[0-9.,:-]{1,7}")
_SCHEME: Final = re.compile(rb"(?:basic|bearer|token|apikey|api-key|key|hmac|digest)\s+(?=\S)", re.IGNORECASE)
_BETWEEN_PARTS: Final = re.compile(rb"[\s;,=\"'&]+")
_CORE: Final = re.compile(rb"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Needle:
    """``text`` is normalized. ``core`` is its longest run of letters and digits, which no encoder escapes."""

    text: bytes
    core: bytes
    is_word: bool
    """Whether it counts only as a whole word, without a letter or digit beside it."""


def needles_of_value(value: str) -> set[Needle]:
    """For a token or the value of a custom header: the value, its parts (such as credentials), and their forms."""
    whole = value.encode("utf-8", "surrogatepass")
    found = set(_needles(whole))
    for part in _parts(whole):
        found |= set(_needles(part))
    return found


def needles_of_key(secret: str) -> set[Needle]:
    """For a signing secret: its text after the prefix, which is the base64 of its key, and the key."""
    text = secret.partition("_")[2].encode("utf-8", "surrogatepass")
    found = set(_needles(text))
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        return found
    raw = normalized(key)
    return found | {Needle(raw, raw, is_word=False), _needle(key.hex().encode())}


def _needles(value: bytes) -> Iterator[Needle]:
    plain = normalized(value)
    if len(plain) < _LEAST or plain in _ORDINARY or _NUMBER.fullmatch(plain):
        return
    # A value that contains what looks like an escape is normalized like the answer, where it cannot be told from a real one.
    yield from map(_needle, normalized_texts(value))
    if len(plain) < _ANYWHERE:
        return
    yield _needle(value.hex().encode())
    if spaced := re.sub(rb"\s", b"+", value.strip()):
        yield _needle(spaced)  # as in a query string
    for form in _base64_forms(value):
        yield _needle(form)
        yield _needle(form.translate(bytes.maketrans(b"+/", b"-_")))


def _needle(form: bytes) -> Needle:
    text = normalized(form)
    return Needle(text, max(_CORE.findall(text), key=len, default=b""), len(text) < _ANYWHERE)


def _base64_forms(value: bytes) -> Iterable[bytes]:
    """The base64 of a value in the middle of a longer text: three forms, without the characters that share bits."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + value).rstrip(b"=")
        shared_at_end = 0 if (before + len(value)) % 3 == 0 else 1
        form = whole[(0, 2, 3)[before] : len(whole) - shared_at_end]
        if len(form) >= _ANYWHERE:
            yield form


def _parts(value: bytes) -> Iterator[bytes]:
    scheme = _SCHEME.match(value)
    if scheme is not None:
        credential = value[scheme.end() :].strip()
        yield credential
        if scheme[0].lower().startswith(b"basic"):
            yield from _user_and_password(credential)
    for part in _BETWEEN_PARTS.split(value):
        if part != value and (len(part) >= _MIN_PART or (len(part) >= _ANYWHERE and re.search(rb"[0-9]", part))):
            yield part


def _user_and_password(credential: bytes) -> Iterator[bytes]:
    try:
        both = base64.b64decode(credential, validate=True)
    except binascii.Error:
        return
    yield both
    yield both.partition(b":")[2]
