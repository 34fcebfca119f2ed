"""Custom headers of every request to an endpoint: which are allowed, and how large they may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from schemas.event_key import EVENT_KEY_HEADER, EVENT_SEQUENCE_HEADER

MAX_HEADERS: Final = 20
MAX_HEADER_NAME: Final = 100
MAX_HEADER_VALUE: Final = 4096
MAX_HEADERS_BYTES: Final = 6000
"""Names and values together. Common servers refuse a head of more than 8 KiB, which also has our headers and the target's path."""

# RFC 9110, 5.6.2 (token) and 5.5 (field values; visible ASCII, with spaces and tabs only inside).
_NAME: Final = re.compile(rf"[A-Za-z0-9!#$%&'*+.^_`|~-]{{1,{MAX_HEADER_NAME}}}")
_NOT_IN_VARIABLES: Final = re.compile(r"[^a-z0-9]")
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")

# Hop-by-hop headers (RFC 9110, 7.6.1, and 10.1.1 for expect), and those that the sender sets.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade", "http2-settings", "expect"}
)
# CGI turns proxy into HTTP_PROXY, which programs interpret as a setting (CVE-2016-5385).
_OF_EVENTS: Final = frozenset({EVENT_KEY_HEADER, EVENT_SEQUENCE_HEADER})
_OF_TRACES: Final = frozenset({"traceparent", "tracestate"})
_OURS: Final = frozenset({"host", "user-agent", "accept-encoding", "proxy", *_OF_EVENTS, *_OF_TRACES})
_ACCEPTED_BEFORE: Final = frozenset({"http2-settings", "proxy", *_OF_EVENTS, *_OF_TRACES})
_TOKEN: Final = "authorization"
_OUR_PREFIXES: Final = ("webhook-", "content-", "proxy-")


def check_headers(value: object) -> dict[str, str | None] | None:
    """Read the field ``headers``: names with values, or with null to remove one. Null itself removes all.

    Names are returned in lower case. Messages never contain a value, which may be a password.

    Raises:
        ValueError: a sentence that says what is wrong.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004 - pydantic turns a ValueError into a finding
            'headers must be an object of names with their values, such as {"X-Tenant": "acme"}.'
        )
    checked: dict[str, str | None] = {}
    for name, content in value.items():
        lowered = _name(name)
        if content is not None:  # a header that an older release accepted can still be removed
            _refuse_reserved(lowered)
        if lowered in checked:
            raise ValueError(f"headers has {lowered!r} twice; names are not case-sensitive.")
        if content is not None and not is_header_value(content):
            form = f"1 to {MAX_HEADER_VALUE} ASCII characters without line breaks, not beginning or ending with a space"
            raise ValueError(f"headers must give {lowered!r} a text of {form}, or null to remove it.")
        checked[lowered] = content
    check_size(checked)
    return checked


def check_size(headers: Mapping[str, str | None]) -> None:
    """Check the headers of one endpoint against their limits.

    Raises:
        ValueError: there are too many, or they are too long.
    """
    size = sum(len(name) + len(content or "") for name, content in headers.items())
    if len(headers) > MAX_HEADERS or size > MAX_HEADERS_BYTES:
        raise ValueError(f"headers may have at most {MAX_HEADERS} headers, and {MAX_HEADERS_BYTES:,} characters in all.")


def is_header_value(value: object) -> bool:
    """Whether a text can be the value of a header."""
    return isinstance(value, str) and len(value) <= MAX_HEADER_VALUE and _VALUE.fullmatch(value) is not None


def check_header_name(name: str, field: str) -> str:
    """The name of a header in a setting of an endpoint, in lower case.

    Raises:
        ValueError: it is invalid or reserved. The sentence begins with ``field``.
    """
    lowered = name.lower()
    if not _NAME.fullmatch(name):
        raise ValueError(f"{field} must be the name of a header: letters, digits and hyphens, at most {MAX_HEADER_NAME}.")
    if is_reserved(lowered):
        raise ValueError(f"{field} must not be {lowered!r}: the sender sets it, or it is not for the receiver.")
    return lowered


def same_header(one: str, other: str) -> bool:
    """Whether a receiver may confuse two headers: many servers treat ``x-api-key`` and ``x_api_key`` as one name."""
    return _read_as(one) == _read_as(other)


def _name(name: str) -> str:
    lowered = name.lower()
    if not _NAME.fullmatch(name):
        raise ValueError(f"headers has an invalid name: {name[:50]!r}; use letters, digits and hyphens.")
    return lowered


def is_reserved(name: str) -> bool:
    """Whether a receiver may confuse a header with one that the sender sets, or with one that is not for the receiver.

    Servers that pass headers on as variables (CGI, WSGI, Rack, PHP) treat ``webhook-id`` and ``webhook_id`` as one name.
    """
    read_as = _read_as(name)
    return read_as == _TOKEN or read_as in _HOP_BY_HOP or read_as in _OURS or read_as.startswith(_OUR_PREFIXES)


def is_retired(name: str) -> bool:
    """Whether a header is reserved now, and was accepted by older releases."""
    lowered = name.lower()
    return is_reserved(lowered) and (lowered in _ACCEPTED_BEFORE or _read_as(lowered) != lowered)


def _read_as(name: str) -> str:
    return _NOT_IN_VARIABLES.sub("-", name.lower())


def _refuse_reserved(lowered: str) -> None:
    if not is_reserved(lowered):
        return
    read_as = _read_as(lowered)
    alike = "" if read_as == lowered else f", which many servers read as {read_as!r}"
    if read_as == _TOKEN:
        raise ValueError(f"headers must not contain {lowered}{alike}: set token, which is sent as Authorization: Bearer.")
    raise ValueError(f"headers must not contain {lowered!r}{alike}: the sender sets it, or it is not for the receiver.")
