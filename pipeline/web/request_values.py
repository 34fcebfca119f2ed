"""Read values from a request: path, query string, body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import hdrs, web

from pipeline.core.search import parse_query
from pipeline.web.errors import ApiError, InvalidError, not_found

ETAG_ANY: Final = "*"
_PAGES: Final = frozenset({"page", "per_page"})
TRUTHY: Final = frozenset({"1", "t", "T", "true", "TRUE"})
FALSY: Final = frozenset({"0", "f", "F", "false", "FALSE"})

IGNORED: Final = web.RequestKey("ignored", list[str])
"""The ignored parameters of the request: one sentence each, with the reason."""
IS_STRICT: Final = web.RequestKey("is_strict", bool)
"""Whether an ignored parameter is an error: with ``strict=1``, and if the request does more than read."""

# Every number of 18 digits fits into 64 bits.
_MAX_DIGITS: Final = 18


def digits(text: str, most: int = _MAX_DIGITS) -> int | None:
    """The number that the text consists of. None for other texts, and for more than ``most`` digits.

    ``int`` alone would accept ``1_000``, ``-1`` and the digits of other scripts. It fails for more than 4,300 digits.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= most else None


def path_id(request: web.Request) -> int:
    """The ``{id}`` in the path.

    Raises:
        ApiError: 404, it is not a whole number.
    """
    found = digits(request.match_info["id"])
    if found is None:
        raise not_found()
    return found


def is_true(request: web.Request, name: str) -> bool:
    """Whether a parameter of the query string is given and true."""
    return _last(request, name) in TRUTHY


def whole_number(request: web.Request, name: str, default: int) -> int:
    """A parameter of the query string.

    Raises:
        InvalidError: it is not a whole number.
    """
    text = _last(request, name)
    if not text:
        return default
    found = digits(text)
    if found is None:
        raise InvalidError({name: [f"{name} must be a whole number, 0 or more, of at most {_MAX_DIGITS} digits."]})
    return found


def _last(request: web.Request, name: str) -> str:
    """The value of a parameter, or an empty string. Of several values, the last one counts, as in Rack."""
    return request.query.getall(name, [""])[-1].strip()


def expected_versions(request: web.Request) -> frozenset[str] | None:
    """The versions that If-Match allows (RFC 9110, 13.1.1). None: any. Weak ETags, and values that are not ETags, match nothing.

    Raises:
        InvalidError: it is empty, perhaps because of an unset variable. The change would overwrite any version.
    """
    if not request.headers.get(hdrs.IF_MATCH, ETAG_ANY).strip():
        raise InvalidError(
            {hdrs.IF_MATCH: ["If-Match is empty. Send the ETag that you read, including the quotes, or leave the header out."]}
        )
    tags = request.if_match
    if tags is None or any(tag.value == ETAG_ANY for tag in tags):
        return None
    return frozenset(tag.value for tag in tags if not tag.is_weak)


def page_and_size(request: web.Request) -> tuple[int, int]:
    """``page`` and ``per_page``, by the same rules as in a search for attempts."""
    query = parse_query((name, value) for name, value in request.query.items() if name in _PAGES)
    return query.page, query.per_page


def refuse_ignored(request: web.Request, ignored: Sequence[str], blank: Sequence[str] = ()) -> None:
    """If the request is strict, refuse ignored parameters, and filters without a value (``blank``).

    Raises:
        InvalidError: the request is strict, and something was ignored or is blank.
    """
    if not request.get(IS_STRICT, False):
        return
    empty = [
        f"{name} has no value. Give it a value, or leave it out. Without a value, more is found than you want." for name in blank
    ]
    if refused := [*ignored, *empty]:
        raise InvalidError({"q": refused})


async def read_body(request: web.Request) -> bytes:
    """The body.

    Raises:
        ApiError: 400, the body is incomplete.
    """
    try:
        return await request.read()
    except (ConnectionError, web.RequestPayloadError) as error:
        raise ApiError(400, "The request body is incomplete. Send it again.") from error
