"""``/api/webhook/erasures``: erase a person's data from ClickHouse."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from aiohttp import web

from pipeline.core.counted import counted
from pipeline.ops.logs import logger
from pipeline.store.erase import PersonData, Subject
from pipeline.store.errors import StoreBudgetError, StoreRejectedError, StoreUnavailableError
from pipeline.web.api.wrapped_input import parse_wrapped
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.request_values import read_body
from pipeline.web.responses import answer
from pipeline.web.routes import Route
from pipeline.web.services import ErasureServices
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.http.erasures import ErasureAnswer, ErasureBody, ErasureInput, ErasurePreview, KeptElsewhere, TracesAnswer
from schemas.topics import DAY_MS, Topics, added_source

log = logger(__name__)

_WRAPPER: Final = 'Name the person: {"erasure": {"email": "…"}} or {"erasure": {"order_number": "…"}}.'
_LOOK_EVERY_S: Final = 0.25
_STILL_AT_IT: Final = (
    "ClickHouse has not finished overwriting yet, and will continue on its own. Request the preview to see what is left, then "
    "erase again."
)


async def preview(api: ErasureServices, request: web.Request) -> web.Response:
    subject = _subject(await read_body(request))
    await api.audit.put(request, AuditAction.SEARCH_BODIES, "erasure", f"preview by {_kind(subject)}")
    async with _at_work():
        found = await api.eraser.find(subject)
    return answer(ErasurePreview(**_counts(found), kept_elsewhere=kept_elsewhere(api.topics, api.events.sources)))


async def erase(api: ErasureServices, request: web.Request) -> web.Response:
    subject = _subject(await read_body(request))
    identifier = secrets.token_hex(4)
    async with _at_work():
        found = await api.eraser.find(subject)
        # Record how much was erased, but not whose: the record must not contain what was erased.
        await api.audit.put(request, AuditAction.ERASE, f"erasure {identifier}", f"by {_kind(subject)}: {_in_words(found)}")
        await api.eraser.start(found)
        await _until_done(api, found)
        left = await api.eraser.find(replace(subject, orders=found.orders))
    log.info(
        "a person's data was erased",
        erasure=identifier,
        events=len(found.events),
        attempts=len(found.attempts) + len(found.answers),
    )
    return answer(
        ErasureAnswer(
            **_counts(found),
            id=identifier,
            left=TracesAnswer(**_counts(left)),
            kept_elsewhere=kept_elsewhere(api.topics, api.events.sources),
        )
    )


ERASURE_ROUTES: Final[Sequence[Route[ErasureServices]]] = (
    Route(
        "POST",
        "/webhook/erasures/preview",
        preview,
        Access.ADMIN,
        "Preview the erasure of a person's data",
        {200: ErasurePreview},
        "Changes nothing. The audit log records the request, but not the person.",
        body=ErasureBody,
        errors=(503,),
    ),
    Route(
        "POST",
        "/webhook/erasures",
        erase,
        Access.ADMIN,
        "Erase a person's data from ClickHouse",
        {200: ErasureAnswer},
        "Overwrites bodies, answers and references of the person's events and attempts, and dead letters. Responds when "
        "ClickHouse is done and nothing is found any more; 503 means that it is still working. The request can be repeated. "
        "Kafka keeps its records until their retention ends (`kept_elsewhere`).",
        body=ErasureBody,
        errors=(503,),
    ),
)


def kept_elsewhere(topics: Topics, sources: Sequence[str]) -> list[KeptElsewhere]:
    """The topics that contain bodies or references, and for how many days. ``sources``: the source topics of events."""
    carrying = {
        *(*sources, topics.dispatches, topics.attempts, topics.dead_letters),
        *(*topics.delay_topics, topics.held, topics.ordered),
    }
    added = [added_source(name) for name in sources if name not in topics.sources]
    return [
        KeptElsewhere(topic=spec.name, days=-(-spec.retention_ms // DAY_MS))
        for spec in (*topics.specs(), *added)
        if spec.name in carrying
    ]


def _subject(body: bytes) -> Subject:
    given = parse_wrapped(body, "erasure", ErasureInput, hint=_WRAPPER)
    if (given.email is None) == (given.order_number is None):
        raise InvalidError({"erasure": ["Give either email or order_number."]})
    if given.email is not None:
        return Subject(email=given.email.get_secret_value())
    return Subject(order_number=given.order_number.get_secret_value() if given.order_number else "")


def _kind(subject: Subject) -> str:
    return "email address" if subject.email else "order number"


def _counts(found: PersonData) -> dict[str, object]:
    return {
        "events": len(found.events),
        "attempts": len(found.attempts) + len(found.answers),
        "dead_letters": len(found.dead_letters),
        "orders": list(found.orders),
    }


def _in_words(found: PersonData) -> str:
    attempts = len(found.attempts) + len(found.answers)
    letters = counted(len(found.dead_letters), "dead letter")
    return f"{counted(len(found.events), 'event')}, {counted(attempts, 'attempt')}, {letters}"


async def _until_done(api: ErasureServices, found: PersonData) -> None:
    try:
        async with asyncio.timeout(api.erasure_timeout_seconds):
            while True:
                # ClickHouse does not report when a mutation is done, so poll it.
                if not await api.eraser.left(found):
                    return
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        raise ApiError(503, _STILL_AT_IT) from None


@asynccontextmanager
async def _at_work() -> AsyncIterator[None]:
    """Translate errors of ClickHouse into answers that say what the user can do."""
    try:
        yield
    except (StoreBudgetError, StoreRejectedError) as error:
        raise InvalidError({"erasure": [str(error)]}) from error
    except StoreUnavailableError as error:
        raise ApiError(503, f"ClickHouse is not responding: {error} Nothing is lost. Send the request again.") from error
