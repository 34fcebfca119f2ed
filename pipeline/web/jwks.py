"""``/.well-known/jwks.json``: the public keys that verify v1a signatures. Anyone may read it.

It serves all keys, or those of one endpoint (``?endpoint_id=7``): a receiver that trusts only its own endpoint's keys refuses requests
that were signed for another endpoint. An endpoint without v1a signatures and one that does not exist look the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from pipeline.core.asymmetric_signing import jwk
from pipeline.endpoints.signatures import valid_pairs
from pipeline.web.errors import ApiError, require_endpoints
from pipeline.web.request_values import digits
from pipeline.web.services import RegistryServices
from schemas.endpoint import EndpointRecord

PATH: Final = "/.well-known/jwks.json"
MEDIA_TYPE: Final = "application/jwk-set+json"
MAX_KEYS: Final = 1000
_KEPT_SECONDS: Final = 5.0
"""How long the list of all keys is cached."""
_HEADERS: Final = {"Cache-Control": "public, max-age=60"}


def jwks_routes(api: RegistryServices) -> Iterable[web.RouteDef]:
    """The route. It needs no API key."""
    kept: tuple[float, bytes | None] = (float("-inf"), None)

    def all_keys() -> bytes | None:
        nonlocal kept
        now = time.monotonic()
        if now - kept[0] > _KEPT_SECONDS:
            kept = now, _key_set(api, [endpoint.record for endpoint in api.registry.all() if endpoint.record.key_pairs])
        return kept[1]

    async def show(request: web.Request) -> web.Response:
        require_endpoints(api.registry)
        asked = request.query.get("endpoint_id")
        body = all_keys() if asked is None else _key_set(api, _one(api, asked))
        if body is None:
            raise ApiError(400, f"There are more than {MAX_KEYS:,} keys. Request the keys of one endpoint with ?endpoint_id=7.")
        return web.Response(body=body, content_type=MEDIA_TYPE, headers=_HEADERS)

    return [web.get(PATH, show)]


def _one(api: RegistryServices, asked: str) -> list[EndpointRecord]:
    endpoint_id = digits(asked)
    endpoint = None if endpoint_id is None else api.registry.get(endpoint_id)
    return [] if endpoint is None else [endpoint.record]


def _key_set(api: RegistryServices, records: Iterable[EndpointRecord]) -> bytes | None:
    now = api.clock()
    keys = [pair.public_key for record in records for pair in valid_pairs(record.key_pairs, now)]
    return None if len(keys) > MAX_KEYS else json.dumps({"keys": [jwk(key) for key in keys]}).encode()
