"""``POST /api/webhook/endpoints/{id}/held/drop``: drop the held deliveries of an endpoint. The request must name their number.

The decision is stored in the endpoint's record, as an offset for each partition of ``webhooks.held``: the end of the held
deliveries at that time. When this answers, Kafka has it. The process that reads the partition carries it out, now or after a
restart. Deliveries that are held later are not affected, because they come after that offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from pipeline.endpoints.health import HeldSummary
from pipeline.ops.logs import logger
from pipeline.web.api.wrapped_input import parse_object, validated
from pipeline.web.audit import Actor
from pipeline.web.endpoint_writes import change_endpoint, changed, find_endpoint
from pipeline.web.errors import ApiError, HeldCountError
from pipeline.web.request_values import path_id, read_body
from pipeline.web.responses import answer
from pipeline.web.routes import Route
from pipeline.web.services import EndpointServices
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.endpoint import EndpointRecord, HeldDrop
from schemas.http.operations import HeldDropAnswer, HeldDropInput

log = logger(__name__)

_HINT: Final = 'Send the number of deliveries to drop: {"count": 297}.'


async def drop(api: EndpointServices, request: web.Request) -> web.Response:
    endpoint = find_endpoint(api, path_id(request))
    given = validated(parse_object(await read_body(request), "body", _HINT), HeldDropInput, required=("count",))
    await drop_held(api, api.audit.actor(request), endpoint.id, given.count)
    return answer(HeldDropAnswer(dropped=given.count))


HELD_DROP_ROUTES: Final[Sequence[Route[EndpointServices]]] = (
    Route(
        "POST",
        "/webhook/endpoints/{id}/held/drop",
        drop,
        Access.ADMIN,
        "Drop the held deliveries of a paused or disabled endpoint",
        {200: HeldDropAnswer},
        "They are never sent. Each is recorded as discarded, with who dropped it. Deliveries that are held later stay. If the "
        "endpoint's held_count is not count, nothing is dropped, and the response is 409 with held_count.",
        body=HeldDropInput,
        errors=(409, 503),
    ),
)


async def drop_held(api: EndpointServices, who: Actor, endpoint_id: int, count: int) -> None:
    """Drop the held deliveries of an endpoint if their number is ``count``. Returns when Kafka has the decision.

    Raises:
        ApiError: 404; 409, the number is a different one (HeldCountError), or the endpoint is active; 503, Kafka does not answer.
    """
    _require(api, endpoint_id, count)
    await api.audit.put(who, AuditAction.DROP_HELD, f"endpoint {endpoint_id}", f"{count} held deliveries")

    def change(record: EndpointRecord) -> EndpointRecord:
        # Checked again, because the number may have changed since.
        held = _require(api, endpoint_id, count)
        drops = [
            HeldDrop(
                partition=part.partition,
                below=part.counted,
                until=part.counted_at,
                dropped_by=who.actor,
                dropped_at=api.clock(),
            )
            for part in held.parts
            if part.partition is not None and part.counted_at is not None
        ]
        kept = [drop for drop in record.drops if drop.partition not in {new.partition for new in drops}]
        return changed(api, record, {"drops": (*kept, *drops), "change": "drop_held", "changed_by": who.actor})

    await change_endpoint(api, endpoint_id, None, change)
    log.info("held deliveries are dropped", endpoint_id=endpoint_id, count=count, dropped_by=who.actor)


def _require(api: EndpointServices, endpoint_id: int, count: int) -> HeldSummary:
    endpoint = find_endpoint(api, endpoint_id)
    held = api.registry.held(endpoint)
    if endpoint.active:
        raise ApiError(409, "The endpoint is active, so its held deliveries are already being sent. Pause it first.")
    if held.count != count:
        raise HeldCountError(count, held.count)
    return held
