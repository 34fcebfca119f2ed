"""``/api/webhook/dead_letters``: records that could not be used, with the reason and the bytes; publish them again or dismiss them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from pipeline.core.search.problems import shown
from pipeline.core.search.query_keys import is_filter_key
from pipeline.store.reports.recent import DeadLetterDetail, DeadLetterSummary
from pipeline.store.search.queries import ResultPage
from pipeline.web.api.wrapped_input import parse_wrapped
from pipeline.web.errors import InvalidError, not_found
from pipeline.web.request_values import FALSY, TRUTHY, page_and_size, path_id, read_body, refuse_ignored
from pipeline.web.resending import Repair
from pipeline.web.responses import answer
from pipeline.web.routes import FILTERS, PAGE, STRICT, Route
from pipeline.web.search_errors import searching
from pipeline.web.services import DeadLetterServices
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.http.dead_letters import (
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
_REPAIRED: Final = "q[repaired_eq]"
_WRAPPER: Final = 'The body may be empty, or must be wrapped: {"record": {"value": {"content": "…"}}}.'


async def index(api: DeadLetterServices, request: web.Request) -> web.Response:
    found, _, ignored = await dead_letter_page(api, request)
    return answer(
        DeadLetterListAnswer(
            dead_letters=[DeadLetterAnswer(**summary_values(api, one)) for one in found.items],
            count=len(found.items),
            total_count=found.total_count,
            current_page=found.current_page,
            pages=found.pages,
            per_page=found.per_page,
            ignored_filters=ignored,
        )
    )


async def show(api: DeadLetterServices, request: web.Request) -> web.Response:
    found = await dead_letter_in_full(api, request)
    return answer(
        DeadLetterDetailAnswer(
            **summary_values(api, found.summary),
            key=None if found.key is None else readable(found.key),
            value=None if found.value is None else readable(found.value),
            headers=[HeaderAnswer(name=name, value=readable(value)) for name, value in found.headers],
        )
    )


async def publish_again(api: DeadLetterServices, request: web.Request) -> web.Response:
    identifier = path_id(request)
    body = await read_body(request)
    given = parse_wrapped(body, "record", RepairInput, hint=_WRAPPER) if body.strip() else RepairInput()
    done = await api.resender.republish(api.audit.actor(request), identifier, repair_of(given))
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


async def dismiss(api: DeadLetterServices, request: web.Request) -> web.Response:
    done = await api.resender.dismiss(api.audit.actor(request), path_id(request))
    return answer(DeadLetterAnswer(**summary_values(api, done)), 202)


DEAD_LETTER_ROUTES: Final[Sequence[Route[DeadLetterServices]]] = (
    Route(
        "GET",
        "/webhook/dead_letters",
        index,
        Access.VIEWER,
        "List dead letters: records that could not be used",
        {200: DeadLetterListAnswer},
        "Newest first, without their bytes. Filters: q[reason_eq], q[topic_eq], and q[repaired_eq] (true or false).",
        parameters=(*PAGE, FILTERS, STRICT),
        errors=(422, 503),
    ),
    Route(
        "GET",
        "/webhook/dead_letters/{id}",
        show,
        Access.OPERATOR,
        "Get a dead letter with its bytes",
        {200: DeadLetterDetailAnswer},
        "The bytes may contain customer data, so the view is recorded in the audit log.",
        errors=(422, 503),
    ),
    Route(
        "POST",
        "/webhook/dead_letters/{id}/republish",
        publish_again,
        Access.OPERATOR,
        "Publish a dead letter again, repaired or unchanged",
        {202: RepublishAnswer},
        "To the topic of its event type, with its headers. 422: it would become a dead letter again; errors says why.",
        body=RepairBody,
        errors=(409, 422, 503),
    ),
    Route(
        "POST",
        "/webhook/dead_letters/{id}/dismiss",
        dismiss,
        Access.OPERATOR,
        "Dismiss a dead letter",
        {202: DeadLetterAnswer},
        "Nothing is published. It counts as repaired from now on: q[repaired_eq]=false leaves it out. It can still be published "
        "again. Lists show it a few seconds later.",
        errors=(422, 503),
    ),
)


async def dead_letter_page(
    api: DeadLetterServices, request: web.Request, *, default: bool | None = None
) -> tuple[ResultPage[DeadLetterSummary], dict[str, str], list[str]]:
    """A page of dead letters, the values of its filters (``reason``, ``topic``, ``repaired``), and what was ignored, with reasons.

    ``default``: whether to list repaired ones, if the request does not say.

    Raises:
        ApiError: 422, ``strict`` is true and something was ignored; 503, ClickHouse does not answer.
    """
    given: dict[str, str] = {}
    ignored, blank, matches_nothing = [], [], False
    for key, value in request.query.items():
        name = key.strip()
        if not is_filter_key(key):
            continue
        if name not in (_REASON, _TOPIC, _REPAIRED):
            ignored.append(f"{shown(name)}: dead letters have no such filter; they have {_REASON}, {_TOPIC} and {_REPAIRED}")
        elif not value.strip():
            blank.append(name)
        elif name == _REPAIRED and value.strip() not in TRUTHY | FALSY:
            ignored.append(f"{name}: it is true or false, not {shown(value.strip())}")
            matches_nothing = default is None
        else:
            if name in given:
                ignored.append(f"{name}: it takes one value, {shown(given[name])} was left out")
            given[name] = value.strip()
    refuse_ignored(request, ignored, blank)
    values = {"reason": _text(given.get(_REASON)), "topic": _text(given.get(_TOPIC))}
    chosen = given.get(_REPAIRED)
    repaired = default if chosen is None else chosen in TRUTHY
    page, size = page_and_size(request)
    if matches_nothing:  # as in a search: a typing mistake must not show everything
        found: ResultPage[DeadLetterSummary] = ResultPage((), 0, page, size)
    else:
        async with searching(api):
            found = await api.reports.dead_letters(page, size, **values, repaired=repaired)
    shown_values = {name: value or "" for name, value in values.items()}
    return found, shown_values | {"repaired": "" if repaired is None else str(repaired).lower()}, ignored


def summary_values(api: DeadLetterServices, letter: DeadLetterSummary) -> dict[str, Any]:
    """A dead letter as shown in lists, without its bytes."""
    values = {name: getattr(letter, name) for name in DeadLetterAnswer.model_fields if hasattr(letter, name)}
    done = letter.repaired
    if done is None:
        return values
    return values | {
        "repaired_at": done.at,
        "repaired_by": done.name or api.audit.person(done.actor),
        "dismissed": done.is_dismissed,
    }


async def dead_letter_in_full(api: DeadLetterServices, request: web.Request) -> DeadLetterDetail:
    """The dead letter in the path, with its bytes. The view is recorded in the audit log.

    Raises:
        ApiError: 404, there is none; 503, ClickHouse or (for the audit log) Kafka does not answer.
    """
    identifier = path_id(request)
    async with searching(api):
        found = await api.reports.dead_letter(identifier)
    if found is None:
        raise not_found()
    await api.audit.put(request, AuditAction.VIEW_DEAD_LETTER, f"dead letter {identifier}")
    return found


def repair_of(given: RepairInput) -> Repair:
    """The replacement to publish.

    Raises:
        InvalidError: the input is not valid base64.
    """
    decoded: dict[str, bytes] = {}
    for name, one in (("key", given.key), ("value", given.value)):
        try:
            decoded |= {name: one.decoded()} if one else {}
        except ValueError as error:
            raise InvalidError({name: [str(error)]}) from error
    return Repair(**decoded)


def _text(value: str | None) -> str | None:
    # Bytes of a query string that are not UTF-8 arrive as lone surrogates. No reason and no topic contains them.
    return None if value is None else value.encode("utf-8", "replace").decode()


def readable(content: bytes) -> BytesAnswer:
    """Bytes as text, or in base64 if they are not text."""
    try:
        return BytesAnswer(content=content.decode(), encoding="text")
    except UnicodeDecodeError:
        return BytesAnswer(content=base64.b64encode(content).decode(), encoding="base64")
