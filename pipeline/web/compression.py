"""Compress answers, and answer 304 if the client already has the content.

The length of a compressed page reveals something about its content (BREACH) to attackers who see the traffic and can make a browser repeat
requests. Therefore the token of the forms is masked differently in each page (:mod:`pipeline.web.dashboard.csrf`), one-time secrets appear
in one answer only, and each compressed answer has a random length: its gzip header contains a file name of up to 100 letters.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import struct
import zlib
from typing import Final

from aiohttp import ETag, hdrs, web
from aiohttp.typedefs import Handler

from pipeline.web.routes import is_of_the_api

EVENT_STREAM: Final = "text/event-stream"
_COMPRESSED: Final = frozenset(
    {"text/html", "text/css", "text/javascript", "text/csv", "application/json", "application/schema+json", "image/svg+xml"}
)
_FEWEST_BYTES: Final = 1024
_MAX_AT_ONCE: Final = 128 * 1024
"""Bytes. This much takes a few milliseconds in the event loop; longer bodies are compressed in a thread."""
_LEVEL: Final = 5
_MAX_PADDING: Final = 100
_HAS_NAME: Final = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"


@web.middleware
async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A middleware that answers 304 if the client has the content, and compresses other answers. Streams are not changed."""
    response = await handler(request)
    if not isinstance(response, web.Response) or response.prepared or not isinstance(response.body, bytes):
        return response
    if request.method in ("GET", "HEAD") and response.status == 200 and (kept := _kept(request, response)) is not None:
        return kept
    body = response.body
    if response.content_type not in _COMPRESSED or hdrs.CONTENT_ENCODING in response.headers:
        return response
    response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    if len(body) < _FEWEST_BYTES or not takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
        return response
    response.body = gzipped(body) if len(body) <= _MAX_AT_ONCE else await asyncio.to_thread(gzipped, body)
    response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    tag = response.etag
    if tag is not None and request.method in ("GET", "HEAD") and not is_of_the_api(request.path):
        response.etag = ETag(tag.value, is_weak=True)  # other bytes, the same content
    return response


def takes_gzip(accepted: str) -> bool:
    """Whether a client accepts gzip, according to its Accept-Encoding."""
    qualities: dict[str, bool] = {}
    for one in accepted.lower().split(","):
        name, _, parameters = one.partition(";")
        quality = parameters.strip().removeprefix("q=").strip()
        qualities[name.strip()] = not quality or quality.strip("0.") != ""
    return qualities.get("gzip", qualities.get("*", False))


def gzipped(body: bytes) -> bytes:
    """The compressed body, with an unpredictable length."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    name = b"a" * (1 + secrets.randbelow(_MAX_PADDING)) + b"\0"
    end = struct.pack("<LL", zlib.crc32(body), len(body) & 0xFFFFFFFF)
    return b"".join((_HAS_NAME, name, compressor.compress(body), compressor.flush(), end))


def _kept(request: web.Request, response: web.Response) -> web.Response | None:
    """304 if the client has the content. An answer of the API without an ETag gets one: a hash of its content."""
    is_api = is_of_the_api(request.path)
    if is_api and response.etag is not None:
        # The tag is the endpoint's version, for If-Match. The health in the answer may change without a new version.
        return None
    if is_api and isinstance(response.body, bytes):
        response.etag = ETag(hashlib.sha256(response.body).hexdigest()[:24], is_weak=True)
    tag = response.etag
    if tag is None or not any(one.value in (tag.value, "*") for one in request.if_none_match or ()):
        return None
    kept = {name: response.headers[name] for name in (hdrs.CACHE_CONTROL, "Content-Security-Policy") if name in response.headers}
    answer = web.Response(status=304, headers=kept)
    answer.etag = tag
    return answer
