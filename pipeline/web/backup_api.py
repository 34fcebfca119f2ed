"""``/api/webhook/backups/endpoints``: all endpoints as a file, and endpoints of such a file back into their topic.

Restoring goes by the rules of every other change: each record is checked, written on top of what stands there, and read back. So two
restores at once, and changes meanwhile, are settled as those of two API processes are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from aiohttp import web
from pydantic import ValidationError

from pipeline.endpoints.backup import SEALED_OTHERWISE, Plan, Step, plan, restored
from pipeline.endpoints.registry import SupersededError
from pipeline.endpoints.vault import VaultError
from pipeline.ops.logs import logger
from pipeline.sender.target import TargetUrlError, check_target_url
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.audit import audit
from pipeline.web.auth import principal_of
from pipeline.web.endpoint_changes import changing, require_endpoints, require_right_key
from pipeline.web.queries import read_body
from pipeline.web.routes import Route
from pipeline.web.wrapped_input import parse_wrapped
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.custom_headers import is_retired
from schemas.endpoint import EndpointRecord
from schemas.endpoint_backup import MEDIA_TYPE, BackupHeader
from schemas.http_api import EndpointInput
from schemas.http_daytwo import MAX_RESTORED, RestoreAnswer, RestoreBody, RestoredEndpoint, RestoreInput

log = logger(__name__)

_WRAPPER: Final = 'Send lines of a backup, wrapped: {"restore": {"endpoints": [{…}], "dry_run": true}}.'


def backup_routes(api: Api) -> Iterable[Route]:
    """The routes, below ``/api``."""

    async def export(request: web.Request) -> web.Response:
        require_endpoints(api)
        records = [endpoint.record for endpoint in api.registry.all()]
        await audit(api, request, AuditAction.EXPORT_ENDPOINTS, "endpoints", f"{len(records)} endpoints")
        header = BackupHeader(exported_at=api.clock(), endpoints=len(records))
        lines = await asyncio.to_thread(lambda: [one.model_dump_json() for one in (header, *records)])
        return web.Response(text="\n".join([*lines, ""]), content_type=MEDIA_TYPE, charset="utf-8")

    async def restore(request: web.Request) -> web.Response:
        given = parse_wrapped(await read_body(request), "restore", RestoreInput, hint=_WRAPPER, required=("endpoints",))
        require_endpoints(api)
        if not given.dry_run:
            require_right_key(api)
            detail = f"{len(given.endpoints)} endpoints" + (", overwriting" if given.overwrite else "")
            await audit(api, request, AuditAction.IMPORT_ENDPOINTS, "endpoints", detail)
        actor = principal_of(request).actor
        made = [(record, await _restore(api, record, given, actor)) for record in given.endpoints]
        return answer(RestoreAnswer(restored=[_shown(record, done) for record, done in made]))

    return [
        Route(
            "GET",
            "/webhook/backups/endpoints",
            export,
            Access.ADMIN,
            "All endpoints as a backup",
            {200: MEDIA_TYPE},
            "JSON lines. Secrets are in it as they are in Kafka, sealed with the encryption key. That it was made is on record.",
            errors=(503,),
            exports=True,
        ),
        Route(
            "POST",
            "/webhook/backups/endpoints",
            restore,
            Access.ADMIN,
            "Restore endpoints of a backup",
            {200: RestoreAnswer},
            f"Up to {MAX_RESTORED}, each by itself: what is missing is created, with its id where nobody else has it; what is there and "
            "differs is changed with overwrite only. It may be repeated.",
            body=RestoreBody,
            errors=(503,),
        ),
    ]


async def _restore(api: Api, record: EndpointRecord, given: RestoreInput, actor: str) -> Plan:
    """Do for one endpoint what its plan says; a plan that another change overtook is made again."""
    if refusal := await _refusal(api, record):
        return Plan(Step.REFUSE, reason=refusal)
    async with changing(api):
        while True:
            wanted = plan(record, api.registry, api.vault, api.clock(), overwrite=given.overwrite)
            if given.dry_run or wanted.step not in (Step.CREATE, Step.UPDATE):
                return wanted
            try:
                done = await (_create if wanted.step is Step.CREATE else _update)(api, record, wanted, actor)
            except SupersededError:
                await api.registry.settle(api.producer)
            else:
                log.info("an endpoint was restored", endpoint_id=done.endpoint_id, step=done.step.value, changed_by=actor)
                return done


async def _create(api: Api, record: EndpointRecord, wanted: Plan, actor: str) -> Plan:
    values = restored(record, api.vault, at=api.clock(), changed_by=actor)
    if wanted.endpoint_id is None or not await api.registry.reserve(api.producer, wanted.endpoint_id):

        def make(endpoint_id: int) -> EndpointRecord:
            return record.model_copy(update=values | {"id": endpoint_id, "version": 1, "activated_version": 1})

        endpoint, is_new = await api.registry.create(api.producer, make)
        if not is_new:
            raise SupersededError(f"Endpoint {endpoint.id} got the target_url meanwhile.")
        return Plan(Step.CREATE, endpoint.id)
    version = max(api.registry.next_version(record.id), record.version)
    # What was known of its health before is of the past.
    await api.registry.write(api.producer, record.model_copy(update=values | {"version": version, "activated_version": version}))
    return Plan(Step.CREATE, record.id)


async def _update(api: Api, record: EndpointRecord, wanted: Plan, actor: str) -> Plan:
    current = api.registry.get(wanted.endpoint_id or 0)
    if current is None:
        raise SupersededError(f"Endpoint {wanted.endpoint_id} was deleted meanwhile.")
    version = current.record.version + 1
    values = restored(record, api.vault, at=api.clock(), changed_by=actor) | {"version": version}
    if record.active and {"active", "target_url"} & set(wanted.differences):
        values["activated_version"] = version
    await api.registry.write(api.producer, current.record.model_copy(update=values))
    return wanted


async def _refusal(api: Api, record: EndpointRecord) -> str:
    """What would refuse the endpoint if it were registered now; empty when nothing does. No sentence holds a secret."""
    fields = record.model_dump(mode="json", include=set(EndpointInput.model_fields))
    try:
        # What an older release accepted is restored, and not sent.
        opened = {name: api.vault.open(sealed) for name, sealed in record.sealed_headers.items()}
        fields["headers"] = {name: value for name, value in opened.items() if not is_retired(name)}
        fields["token"] = api.vault.open(record.sealed_token) if record.sealed_token else None
    except VaultError:
        return SEALED_OTHERWISE
    try:
        EndpointInput.model_validate(fields)
        await check_target_url(record.target_url, api.guard)
    except ValidationError as error:
        finding = error.errors(include_url=False, include_input=False)[0]
        return str(finding.get("ctx", {}).get("error", finding["msg"]))
    except TargetUrlError as error:
        return str(error)
    return ""


def _shown(record: EndpointRecord, done: Plan) -> RestoredEndpoint:
    return RestoredEndpoint(
        id=record.id,
        target_url=record.target_url,
        step=done.step.value,
        restored_as=done.endpoint_id,
        differences=list(done.differences),
        reason=done.reason,
    )
