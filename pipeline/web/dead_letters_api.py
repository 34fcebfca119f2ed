"""``/api/webhook/dead_letters``: what could not be used, why, and its bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict
from typing import Final

from aiohttp import web

from pipeline.core.search.keys import is_filter_key
from pipeline.core.search.notes import shown
from pipeline.store.reports import DeadLetterDetail, DeadLetterSummary
from pipeline.store.search import Page
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.audit import asker, audit
from pipeline.web.errors import InvalidError, not_found
from pipeline.web.queries import page_and_size, path_id, read_body, refuse_ignored
from pipeline.web.republishing import Repair, republish
from pipeline.web.routes import FILTERS, PAGE, STRICT, Route
from pipeline.web.searching import searching
from pipeline.web.wrapped_input import parse_wrapped
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.http_operations import (
    BytesAnswer,
    DeadLetterAnswer,
    DeadLetterDetailAnswer,
    DeadLetterListAnswer,
    HeaderAnswer,
    RepairBody,
    RepairInput,
    RepublishAnswer,
)

_REASON: Final = "q[reason_eq]"
_TOPIC: Final = "q[topic_eq]"
_WRAPPER: Final = 'The body may be empty, or must be wrapped: {"record": {"value": {"content": "…"}}}.'


def dead_letter_routes(api: Api) -> Iterable[Route]:
    """The routes, below ``/api``."""

    async def index(request: web.Request) -> web.Response:
        found, _, ignored = await dead_letter_page(api, request)
        return answer(
            DeadLetterListAnswer(
                dead_letters=[DeadLetterAnswer(**asdict(one)) for one in found.items],
                count=len(found.items),
                total_count=found.total_count,
                current_page=found.current_page,
                pages=found.pages,
                per_page=found.per_page,
                ignored_filters=ignored,
            )
        )

    async def show(request: web.Request) -> web.Response:
        found = await dead_letter_in_full(api, request)
        return answer(
            DeadLetterDetailAnswer(
                **asdict(found.summary),
                key=None if found.key is None else readable(found.key),
                value=None if found.value is None else readable(found.value),
                headers=[HeaderAnswer(name=name, value=readable(value)) for name, value in found.headers],
            )
        )

    async def publish_again(request: web.Request) -> web.Response:
        identifier = path_id(request)
        body = await read_body(request)
        given = parse_wrapped(body, "record", RepairInput, hint=_WRAPPER) if body.strip() else RepairInput()
        done = await republish(api, asker(api, request), identifier, repair_of(given))
        return answer(
            RepublishAnswer(
                event_id=done.event.id,
                event_name=done.event.event_name,
                topic=done.position.topic,
                partition=done.position.partition,
                offset=done.position.offset,
            ),
            202,
        )

    return [
        Route(
            "GET",
            "/webhook/dead_letters",
            index,
            Access.VIEWER,
            "List the records that could not be used",
            {200: DeadLetterListAnswer},
            "Newest first, without their bytes. Filters: q[reason_eq], q[topic_eq].",
            parameters=(*PAGE, FILTERS, STRICT),
            errors=(422, 503),
        ),
        Route(
            "GET",
            "/webhook/dead_letters/{id}",
            show,
            Access.OPERATOR,
            "One record that could not be used, with its bytes",
            {200: DeadLetterDetailAnswer},
            "Its bytes may hold customers' data: that they were looked at is on record.",
            errors=(422, 503),
        ),
        Route(
            "POST",
            "/webhook/dead_letters/{id}/republish",
            publish_again,
            Access.OPERATOR,
            "Publish a dead letter again, mended or as it was",
            {202: RepublishAnswer},
            "To the topic that it came from, with its headers. 422: it would be a dead letter again; errors says why.",
            body=RepairBody,
            errors=(409, 422, 503),
        ),
    ]


async def dead_letter_page(api: Api, request: web.Request) -> tuple[Page[DeadLetterSummary], dict[str, str], list[str]]:
    """A page of dead letters; the values of its filters by what they filter (``reason``, ``topic``); what was ignored, and why.

    Raises:
        ApiError: 422, ``strict`` is true and something was ignored; 503, ClickHouse does not answer.
    """
    given: dict[str, str] = {}
    ignored, blank = [], []
    for key, value in request.query.items():
        name = key.strip()
        if not is_filter_key(key):
            continue
        if name not in (_REASON, _TOPIC):
            ignored.append(f"{shown(name)}: dead letters have no such filter; they have {_REASON} and {_TOPIC}")
        elif not value.strip():
            blank.append(name)
        else:
            if name in given:
                ignored.append(f"{name}: it takes one value, {shown(given[name])} was left out")
            given[name] = value.strip()
    refuse_ignored(request, ignored, blank)
    values = {"reason": _text(given.get(_REASON)), "topic": _text(given.get(_TOPIC))}
    page, size = page_and_size(request)
    async with searching(api):
        found = await api.reports.dead_letters(page, size, **values)
    return found, {name: value or "" for name, value in values.items()}, ignored


async def dead_letter_in_full(api: Api, request: web.Request) -> DeadLetterDetail:
    """The dead letter that the path names, with its bytes. That it was looked at is on record.

    Raises:
        ApiError: 404, there is none; 503, ClickHouse or (for the audit) Kafka does not answer.
    """
    identifier = path_id(request)
    async with searching(api):
        found = await api.reports.dead_letter(identifier)
    if found is None:
        raise not_found()
    await audit(api, request, AuditAction.VIEW_DEAD_LETTER, f"dead letter {identifier}")
    return found


def repair_of(given: RepairInput) -> Repair:
    """What is published instead.

    Raises:
        InvalidError: what was given are no bytes.
    """
    decoded: dict[str, bytes] = {}
    for name, one in (("key", given.key), ("value", given.value)):
        try:
            decoded |= {name: one.decoded()} if one else {}
        except ValueError as error:
            raise InvalidError({name: [str(error)]}) from error
    return Repair(**decoded)


def _text(value: str | None) -> str | None:
    # Bytes of a query string that are not UTF-8 are lone surrogates; no reason and no topic holds such.
    return None if value is None else value.encode("utf-8", "replace").decode()


def readable(content: bytes) -> BytesAnswer:
    """Bytes as text, or in base64 when they are none."""
    try:
        return BytesAnswer(content=content.decode(), encoding="text")
    except UnicodeDecodeError:
        return BytesAnswer(content=base64.b64encode(content).decode(), encoding="base64")
