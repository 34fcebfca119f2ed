"""``/api/webhook/backups/endpoints``: back up all endpoints to a file, and restore endpoints from such a file.

Restoring follows the rules of every other change: each record is checked, written after the current one, and read back. So concurrent
restores and changes are resolved in the same way as changes by two API processes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from msgspec import structs
from pydantic import ValidationError

from pipeline.core.counted import counted
from pipeline.core.filters.stored import texts_of
from pipeline.endpoints.authentication import opened_authentication
from pipeline.endpoints.backup import ENCRYPTED_WITH_UNKNOWN_KEY, RestorePlan, RestoreStep, plan, restored
from pipeline.endpoints.client_certificates import open_identity
from pipeline.endpoints.registry import SupersededError
from pipeline.endpoints.signatures import opened_signature_header
from pipeline.endpoints.vault import VaultError
from pipeline.ops.logs import logger
from pipeline.web.api.wrapped_input import parse_wrapped
from pipeline.web.auth import principal_of
from pipeline.web.endpoint_values import UNVERIFIED, check_target, check_token_url
from pipeline.web.endpoint_writes import changing, require_right_key
from pipeline.web.errors import InvalidError, require_endpoints
from pipeline.web.filter_check import CompilableEndpointInput
from pipeline.web.request_values import read_body
from pipeline.web.responses import answer
from pipeline.web.routes import Route
from pipeline.web.services import EndpointServices
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.codec import to_json
from schemas.custom_headers import is_retired
from schemas.endpoint import EndpointRecord
from schemas.endpoint_backup import MEDIA_TYPE, BackupHeader
from schemas.http.backups import MAX_RESTORED, RestoreAnswer, RestoreBody, RestoredEndpoint, RestoreInput
from schemas.http.endpoints import EndpointInput
from schemas.validation_sentences import sentence_of

log = logger(__name__)

_WRAPPER: Final = 'Send the lines of a backup, wrapped: {"restore": {"endpoints": [{…}], "dry_run": true}}.'


async def export(api: EndpointServices, request: web.Request) -> web.Response:
    require_endpoints(api.registry)
    records = [endpoint.record for endpoint in api.registry.all()]
    await api.audit.put(request, AuditAction.EXPORT_ENDPOINTS, "endpoints", counted(len(records), "endpoint"))
    header = BackupHeader(exported_at=api.clock(), endpoints=len(records))
    lines = await asyncio.to_thread(lambda: [to_json(one).decode() for one in (header, *records)])
    return web.Response(text="\n".join([*lines, ""]), content_type=MEDIA_TYPE, charset="utf-8")


async def restore(api: EndpointServices, request: web.Request) -> web.Response:
    given = parse_wrapped(await read_body(request), "restore", RestoreInput, hint=_WRAPPER, required=("endpoints",))
    require_endpoints(api.registry)
    if not given.dry_run:
        require_right_key(api)
        detail = counted(len(given.endpoints), "endpoint") + (", overwriting" if given.overwrite else "")
        await api.audit.put(request, AuditAction.IMPORT_ENDPOINTS, "endpoints", detail)
    actor = principal_of(request).actor
    made = [(record, await _restore(api, record, given, actor)) for record in given.endpoints]
    return answer(RestoreAnswer(restored=[_shown(record, done) for record, done in made]))


BACKUP_ROUTES: Final[Sequence[Route[EndpointServices]]] = (
    Route(
        "GET",
        "/webhook/backups/endpoints",
        export,
        Access.ADMIN,
        "Back up all endpoints",
        {200: MEDIA_TYPE},
        "JSON lines. Secrets are encrypted with the encryption key, as in Kafka. The backup is recorded in the audit log.",
        errors=(503,),
        exports=True,
    ),
    Route(
        "POST",
        "/webhook/backups/endpoints",
        restore,
        Access.ADMIN,
        "Restore endpoints from a backup",
        {200: RestoreAnswer},
        f"Up to {MAX_RESTORED}, each on its own. A missing endpoint is created, with its old id if that is free. An existing "
        "one that differs is changed only with overwrite. The request can be repeated.",
        body=RestoreBody,
        errors=(503,),
    ),
)


async def _restore(api: EndpointServices, record: EndpointRecord, given: RestoreInput, actor: str) -> RestorePlan:
    """Carry out the plan for one endpoint. If another change came first, the plan is made again."""
    if refusal := await _refusal(api, record):
        return RestorePlan(RestoreStep.REFUSE, reason=refusal)
    async with changing(api):
        while True:
            wanted = plan(record, api.registry, api.vault, api.clock(), overwrite=given.overwrite)
            if given.dry_run or wanted.step not in (RestoreStep.CREATE, RestoreStep.UPDATE):
                return wanted
            try:
                done = await (_create if wanted.step is RestoreStep.CREATE else _update)(api, record, wanted, actor)
            except SupersededError:
                await api.registry.settle(api.producer)
            else:
                log.info("an endpoint was restored", endpoint_id=done.endpoint_id, step=done.step.value, changed_by=actor)
                return done


async def _create(api: EndpointServices, record: EndpointRecord, wanted: RestorePlan, actor: str) -> RestorePlan:
    # A backup may be old, or from another deployment: whether the receiver still wants webhooks is not known.
    values = restored(record, api.vault, at=api.clock(), changed_by=actor) | UNVERIFIED
    if wanted.endpoint_id is None or not await api.registry.reserve(api.producer, wanted.endpoint_id):

        def make(endpoint_id: int) -> EndpointRecord:
            return structs.replace(record, **values, id=endpoint_id, version=1, activated_version=1)

        endpoint, is_new = await api.registry.create(api.producer, make)
        if not is_new:
            raise SupersededError(f"Endpoint {endpoint.id} has taken this target_url in the meantime.")
        return RestorePlan(RestoreStep.CREATE, endpoint.id)
    # Earlier facts about its health no longer apply, not even if the topic of the endpoints was lost, but not that of their health.
    version = max(api.registry.next_version(record.id), record.version + 1)
    await api.registry.write(api.producer, structs.replace(record, **values, version=version, activated_version=version))
    return RestorePlan(RestoreStep.CREATE, record.id)


async def _update(api: EndpointServices, record: EndpointRecord, wanted: RestorePlan, actor: str) -> RestorePlan:
    current = api.registry.get(wanted.endpoint_id or 0)
    if current is None:
        raise SupersededError(f"Endpoint {wanted.endpoint_id} was deleted in the meantime.")
    version = current.record.version + 1
    values = restored(record, api.vault, at=api.clock(), changed_by=actor) | {"version": version}
    if record.active and {"active", "target_url"} & set(wanted.differences):
        values["activated_version"] = version
    if {"target_url", "verification"} & set(wanted.differences):
        values |= UNVERIFIED
    await api.registry.write(api.producer, structs.replace(current.record, **values))
    return wanted


async def _refusal(api: EndpointServices, record: EndpointRecord) -> str:
    """Why the endpoint could not be registered now. Empty if it could. No sentence contains a secret."""
    fields = {name: value for name, value in json.loads(to_json(record)).items() if name in EndpointInput.model_fields}
    if record.expressions:
        fields["filters"] = texts_of(record)
    try:
        # Headers that only older releases accepted do not prevent a restore. They are not sent.
        opened = {name: api.vault.open(sealed) for name, sealed in record.sealed_headers.items()}
        fields["headers"] = {name: value for name, value in opened.items() if not is_retired(name)}
        fields["signature_header"] = opened_signature_header(record, api.vault)
        identity = open_identity(record.client_certificate, api.vault)
        fields["client_certificate"] = identity and {"certificate": identity.certificate, "private_key": identity.private_key}
        fields["authentication"] = opened_authentication(record, api.vault)
    except VaultError:
        return ENCRYPTED_WITH_UNKNOWN_KEY
    try:
        checked = CompilableEndpointInput.model_validate(fields, context=api.events.types)
        await check_target(api, record.target_url)
        await check_token_url(api, checked)
    except ValidationError as error:
        finding = error.errors(include_url=False, include_input=False)[0]
        return sentence_of(finding)
    except InvalidError as error:
        return error.sentences[0]
    return ""


def _shown(record: EndpointRecord, done: RestorePlan) -> RestoredEndpoint:
    return RestoredEndpoint(
        id=record.id,
        target_url=record.target_url,
        step=done.step.value,
        restored_as=done.endpoint_id,
        differences=list(done.differences),
        reason=done.reason,
    )
