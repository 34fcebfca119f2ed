"""Recognizes a text that was pasted into the search box: an order number, a URL, an email address, anything. Pure.

:func:`recognize` returns what the text certainly is, or guesses. The caller looks up which of them exist.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.endpoint_names import endpoint_name
from pipeline.web.request_values import digits

MAX_TEXT: Final = 2_000
"""Characters. A longer text is cut: it is probably a body, and its beginning is enough to find it."""
_MAX_REFERENCE: Final = 255
_MIN_ORDER_DIGITS: Final = 6
_ORDER: Final = re.compile(r"R[0-9]{6,12}", re.ASCII | re.IGNORECASE)
_SHIPMENT: Final = re.compile(r"H[0-9]{6,14}", re.ASCII | re.IGNORECASE)
_EMAIL: Final = re.compile(r"[^\s@<>\"',;:]+@[^\s@<>\"',;:]+\.[^\s@<>\"',;:.]{2,}")
_ADDRESSEE: Final = re.compile(rf"[^@<>]+<(?P<email>{_EMAIL.pattern})>")
"""``Grace Hopper <grace.hopper@example.com>``, as mail programs copy it."""
_MENTIONED: Final = re.compile(rf"(?<![^\W_])(?:{_ORDER.pattern}|{_SHIPMENT.pattern})(?![^\W_])", re.ASCII | re.IGNORECASE)
_URL: Final = re.compile(r"(?:https?://|//)\S+", re.IGNORECASE)
_PATH: Final = re.compile(r"/\S*", re.ASCII)
_UNSEEN: Final = re.compile("[\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\x00-\x1f\x7f]+")
_WRAPPED: Final = "\"'`\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{DOUBLE LOW-9 QUOTATION MARK}<>()[]{},;"
_MIN_PART: Final = 3
"""The fewest characters of an endpoint's name that find it."""


class ReferenceKind(enum.StrEnum):
    """What the search box can look up. The values are attributes of attempts."""

    ORDER = "order_number"
    SHIPMENT = "shipment_number"
    SUBSCRIPTION = "subscription_id"
    STOCK_ITEM = "stock_item_id"
    SKU = "sku"
    EVENT = "event_id"
    ATTEMPT = "id"


_TEXTS: Final = (
    ReferenceKind.ORDER,
    ReferenceKind.SHIPMENT,
    ReferenceKind.SUBSCRIPTION,
    ReferenceKind.SKU,
    ReferenceKind.EVENT,
)
"""Any text may be one of these."""
_WITH_TIMELINE: Final = (ReferenceKind.ORDER, ReferenceKind.SHIPMENT, ReferenceKind.SUBSCRIPTION)
"""A part of a URL's path may be one of these: ``https://oms.example.com/orders/NORD-330722995``."""
_MAX_PARTS: Final = 3
_DIGIT: Final = re.compile(r"\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A number or id, and its kind."""

    kind: ReferenceKind
    value: str


@dataclass(frozen=True, slots=True)
class Pasted:
    """What a text is. At most one of ``certain``, ``url`` and ``is_email`` is set; ``guesses`` are what else it may be. With ``certain``, they
    are the same number as it was written, and count if they are on record.

    ``path`` is the path and query of a URL, perhaps of one of our pages. ``mentioned`` is the only order or shipment in a longer
    text: ``Order R742992696 is late``, or the URL of its page in the OMS.
    """

    text: str
    certain: Reference | None = None
    url: str | None = None
    path: str | None = None
    host: str | None = None
    is_email: bool = False
    guesses: Sequence[Reference] = ()
    mentioned: Reference | None = None


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """An endpoint, for the search box."""

    id: int
    name: str
    target_url: str
    description: str = ""


def recognize(text: str) -> Pasted:
    """Recognize a text, even if it was pasted with quotation marks or other characters around it."""
    cleaned = " ".join(_UNSEEN.sub(" ", text).split())[:MAX_TEXT]
    bare = cleaned.strip(_WRAPPED + " ")
    if _URL.fullmatch(bare):
        return _of_url(bare)
    if _PATH.fullmatch(bare):
        return Pasted(cleaned, path=bare, mentioned=_mentioned(bare))
    if _EMAIL.fullmatch(bare.removeprefix("mailto:")):
        return Pasted(bare.removeprefix("mailto:"), is_email=True)
    if addressee := _ADDRESSEE.fullmatch(cleaned):
        return Pasted(addressee["email"], is_email=True)
    number = _joined(bare)
    certain = _certain(bare, number)
    # An OMS may write its numbers in another way: R-123456 may be an order of its own, and so may one with an invisible character.
    written = [one for one in (_with_unseen(text), bare) if one]
    if certain is not None:
        as_written = tuple(Reference(certain.kind, one) for one in written if one != certain.value)
        return Pasted(certain.value, certain, guesses=as_written)
    guesses = (guess for one in written for guess in _guesses(one, number))
    return Pasted(cleaned, guesses=tuple(dict.fromkeys(guesses)), mentioned=_mentioned(cleaned))


def _with_unseen(text: str) -> str:
    """The text with its invisible characters, if it has any and may be a number. They usually come from a program it was copied from."""
    written = text.strip(" \t\r\n")
    return written if len(written) <= _MAX_REFERENCE and _UNSEEN.search(written) else ""


def _mentioned(text: str) -> Reference | None:
    """The only order in a text, or else the only shipment."""
    numbers = {found.upper() for found in _MENTIONED.findall(text)}
    for form in (_ORDER, _SHIPMENT):
        if named := [one for one in numbers if form.fullmatch(one)]:
            return _certain("", named[0]) if len(named) == 1 else None
    return None


def _certain(bare: str, number: str) -> Reference | None:
    """A reference whose form is unmistakable."""
    if _ORDER.fullmatch(number):
        return Reference(ReferenceKind.ORDER, number.upper())
    if _SHIPMENT.fullmatch(number):
        return Reference(ReferenceKind.SHIPMENT, number.upper())
    return Reference(ReferenceKind.EVENT, bare) if bare.lower().startswith("evt_") and " " not in bare else None


def canonical_number(number: str) -> str:
    """The number of an order or shipment as our OMS writes it. Other numbers are returned as they are.

    The number as it was written comes first, if it is on record.
    """
    found = recognize(number).certain
    return found.value if found is not None else number.strip()


def named(endpoints: Iterable[Endpoint]) -> Iterable[NamedEndpoint]:
    """Endpoints, for the search box."""
    for one in endpoints:
        description = one.record.description
        yield NamedEndpoint(one.id, endpoint_name(description, one.target_url), one.target_url, description)


def matching(endpoints: Iterable[NamedEndpoint], pasted: Pasted) -> tuple[Sequence[NamedEndpoint], bool]:
    """The endpoints that match a text, and whether that is certain: by URL, id or whole name. Otherwise, by the start of a word."""
    known = list(endpoints)
    if pasted.url is not None:
        bare = pasted.url.partition("#")[0]
        if exact := [one for one in known if bare == one.target_url]:
            return exact, True
        path = bare.partition("?")[0].rstrip("/")
        if same := [one for one in known if path == one.target_url.partition("?")[0].rstrip("/")]:
            return same, True
        return [one for one in known if pasted.host and _host(one.target_url) == pasted.host], False
    text = pasted.text.casefold().strip(_WRAPPED + " ")
    by_name = [one for one in known if text and text in (one.name.casefold(), one.description.casefold(), _host(one.target_url))]
    by_id = [one for one in known if text.removeprefix("#") == str(one.id)]
    if by_name or by_id:
        return list(dict.fromkeys([*by_name, *by_id])), True
    if len(text) < _MIN_PART or text.isdigit():
        return (), False
    begins = re.compile(rf"(?<![^\W_]){re.escape(text)}")
    return [one for one in known if begins.search(f"{one.description} {one.name} {one.target_url}".casefold())], False


def _of_url(text: str) -> Pasted:
    url = f"https:{text}" if text.startswith("//") else text
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].casefold()
    except ValueError:  # half an IPv6 address
        return Pasted(text)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    named = [unquote(part) for part in parts.path.split("/")[2:] if _DIGIT.search(part)][-_MAX_PARTS:]
    guesses = tuple(
        dict.fromkeys(Reference(kind, one) for part in named for one in (part, part.upper()) for kind in _WITH_TIMELINE)
    )
    return Pasted(url, url=url, path=path, host=host, guesses=guesses, mentioned=_mentioned(path))


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].casefold()
    except ValueError:
        return ""


def _joined(text: str) -> str:
    """A number without separators: ``#R 742-992-696`` is ``R742992696``."""
    return re.sub(r"[\s\-]+", "", text.lstrip("#").strip())


def _guesses(bare: str, number: str) -> Iterable[Reference]:
    if not bare or len(bare) > _MAX_REFERENCE:
        return
    is_number = digits(number) is not None
    if is_number:
        yield Reference(ReferenceKind.ATTEMPT, number)
        yield Reference(ReferenceKind.STOCK_ITEM, number)
    for one in dict.fromkeys((bare, bare.lstrip("#").strip(), bare.upper())):
        if one:
            yield from (Reference(kind, one) for kind in _TEXTS)
    if is_number and len(number) >= _MIN_ORDER_DIGITS:
        yield Reference(ReferenceKind.ORDER, f"R{number}")
        yield Reference(ReferenceKind.SHIPMENT, f"H{number}")
