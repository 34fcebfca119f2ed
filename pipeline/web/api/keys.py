"""``/api/webhook/keys``: the API keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from pipeline.ops.logs import logger
from pipeline.web.api.wrapped_input import parse_wrapped
from pipeline.web.auth import principal_of
from pipeline.web.errors import not_found
from pipeline.web.kafka_writes import confirmed_within
from pipeline.web.request_values import read_body
from pipeline.web.responses import answer
from pipeline.web.routes import Route
from pipeline.web.services import KeyServices
from schemas.api_key import Access, ApiKeyRecord
from schemas.audit import AuditAction
from schemas.http.keys import KeyAnswer, KeyBody, KeyCreated, KeyInput, KeysAnswer

log = logger(__name__)

_WRAPPER: Final = 'The fields of a key must be wrapped: {"key": {"name": "…", "role": "viewer"}}.'
_UNCONFIRMED: Final = "Kafka did not confirm the change in time. It may still take effect. List the keys before you try again."
_ID: Final = {"type": "string", "pattern": "^[0-9a-f]{8}$"}


async def index(api: KeyServices, _: web.Request) -> web.Response:
    return answer(KeysAnswer(keys=[KeyAnswer(**_values(api, record)) for record in api.ring.valid()]))


async def create(api: KeyServices, request: web.Request) -> web.Response:
    given = parse_wrapped(await read_body(request), "key", KeyInput, hint=_WRAPPER, required=("name", "role"))
    record, key = await create_key(api, request, given)
    return answer(KeyCreated(**_values(api, record), key=key), 201)


async def revoke(api: KeyServices, request: web.Request) -> web.Response:
    await revoke_key(api, request, request.match_info["id"])
    return web.Response(status=204)


KEY_ROUTES: Final[Sequence[Route[KeyServices]]] = (
    Route("GET", "/webhook/keys", index, Access.ADMIN, "List API keys", {200: KeysAnswer}),
    Route(
        "POST",
        "/webhook/keys",
        create,
        Access.ADMIN,
        "Create an API key",
        {201: KeyCreated},
        "Returns the key, which is shown only once.",
        body=KeyBody,
        errors=(503,),
    ),
    Route(
        "DELETE",
        "/webhook/keys/{id}",
        revoke,
        Access.ADMIN,
        "Revoke an API key",
        {204: None},
        errors=(503,),
        id_schema=_ID,
    ),
)


async def create_key(api: KeyServices, request: web.Request, given: KeyInput) -> tuple[ApiKeyRecord, str]:
    """Create an API key. Returns its record and the key itself, which is shown only once.

    Raises:
        ApiError: 503, Kafka does not answer.
    """
    await api.audit.put(request, AuditAction.CREATE_KEY, "key", f"{given.role.value} {given.name}")
    actor = principal_of(request).actor
    async with confirmed_within(api.write_timeout_seconds, _UNCONFIRMED):
        record, key = await api.ring.create(
            api.producer, name=given.name, role=given.role, created_by=actor, at=api.clock(), owner=given.owner
        )
    log.info("an API key was created", key_id=record.id, role=record.role.value, created_by=actor)
    return record, key


async def revoke_key(api: KeyServices, request: web.Request, identifier: str) -> ApiKeyRecord:
    """Revoke an API key.

    Raises:
        ApiError: 404, there is no such key; 503, Kafka does not answer.
    """
    record = find_key(api, identifier)
    await api.audit.put(request, AuditAction.REVOKE_KEY, f"key {record.id}", f"{record.role.value} {record.name}")
    actor = principal_of(request).actor
    async with confirmed_within(api.write_timeout_seconds, _UNCONFIRMED):
        await api.ring.revoke(api.producer, record, revoked_by=actor, at=api.clock())
    log.info("an API key was revoked", key_id=record.id, revoked_by=actor)
    return record


def find_key(api: KeyServices, identifier: str) -> ApiKeyRecord:
    """The valid key with this id.

    Raises:
        ApiError: 404, there is none.
    """
    record = api.ring.get(identifier)
    if record is None:
        raise not_found()
    return record


def _values(api: KeyServices, record: ApiKeyRecord) -> dict[str, object]:
    own = {name: getattr(record, name) for name in KeyAnswer.model_fields if name in ApiKeyRecord.__struct_fields__}
    return own | {"last_used_at": api.ring.last_used(record.id)}
