"""``/api/webhook/encryption``: which endpoints are encrypted with an old key, and encrypting them with the new one.

The state is in the endpoints' own records, so an interrupted run continues with the next request, and two concurrent runs do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from aiohttp import web

from pipeline.web.auth import principal_of
from pipeline.web.endpoint_changes import reencrypt_endpoint
from pipeline.web.errors import require_endpoints
from pipeline.web.responses import answer
from pipeline.web.routes import Route
from pipeline.web.services import EndpointServices
from schemas.api_key import Access
from schemas.http.encryption import EncryptionAnswer

_AT_ONCE: Final = 50
"""The most endpoints that one request encrypts, because each waits until its record has been read back."""


async def show(api: EndpointServices, _: web.Request) -> web.Response:
    require_endpoints(api.registry)
    return answer(_state(api))


async def reencrypt(api: EndpointServices, request: web.Request) -> web.Response:
    require_endpoints(api.registry)
    old = [one.id for one in api.registry.all() if one.problem is None and not one.is_current]
    actor = principal_of(request).actor
    made = [await reencrypt_endpoint(api, endpoint_id, actor) for endpoint_id in islice(old, _AT_ONCE)]
    return answer(_state(api, reencrypted=sum(made)))


ENCRYPTION_ROUTES: Final[Sequence[Route[EndpointServices]]] = (
    Route(
        "GET",
        "/webhook/encryption",
        show,
        Access.ADMIN,
        "Count the endpoints that are encrypted with an old key",
        {200: EncryptionAnswer},
        errors=(503,),
    ),
    Route(
        "POST",
        "/webhook/encryption",
        reencrypt,
        Access.ADMIN,
        "Encrypt endpoints with the first encryption key",
        {200: EncryptionAnswer},
        f"At most {_AT_ONCE} per request: repeat it until none remain. Each one is a change to its endpoint "
        "(`reencrypt`), with a new version. Nothing else changes, and deliveries continue.",
        errors=(503,),
    ),
)


def _state(api: EndpointServices, reencrypted: int = 0) -> EncryptionAnswer:
    endpoints = api.registry.all()
    unusable = [one for one in endpoints if one.problem is not None]
    return EncryptionAnswer(
        keys=api.vault.key_count,
        endpoints=len(endpoints),
        remaining=sum(not one.is_current for one in endpoints) - len(unusable),
        unusable=len(unusable),
        reencrypted=reencrypted,
    )
