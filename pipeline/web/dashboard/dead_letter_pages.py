"""``/webhooks/dead-letters``: what could not be used, why, its bytes; and publishing it again when it is mended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlencode

from aiohttp import web

from pipeline.store.reports import DeadLetterDetail
from pipeline.web.advice import for_dead_letter
from pipeline.web.audit import asker
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.gate import form_of
from pipeline.web.dashboard.pages import PREFIX, Page
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dead_letters_api import dead_letter_in_full, dead_letter_page, readable, repair_of
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.queries import path_id
from pipeline.web.republishing import Repair, is_cut, republish
from pipeline.web.routes import FILTERS, PAGE
from schemas.api_key import Access
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetterReason
from schemas.http_operations import BytesAnswer, BytesInput, RepairInput

LIST: Final = f"{PREFIX}/dead-letters"
_TEXT: Final = "text"
_FIELDS: Final = ("key", "key_encoding", "value", "value_encoding")


@dataclass(frozen=True, slots=True)
class Shown:
    """Bytes for people, and in which form they can be edited."""

    content: str
    encoding: str


@dataclass(frozen=True, slots=True)
class View:
    """What the page of a dead letter shows. ``errors`` are the sentences for each field of the form."""

    letter: DeadLetterDetail
    advice: str
    key: Shown | None
    value: Shown | None
    headers: Sequence[tuple[str, str]]
    is_cut: bool
    is_event: bool
    """Whether it came from a topic that events are published to, so that it can be published there again."""
    draft_key: Shown
    draft_value: Shown
    errors: dict[str, list[str]]


def dead_letter_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""

    async def index(request: web.Request) -> web.Response:
        page, given, ignored = await dead_letter_page(desk.api, request)
        topics = dict.fromkeys([*desk.api.topics.sources, *([given["topic"]] if given["topic"] else [])])
        return desk.show(
            request,
            "dead_letters.html",
            page=page,
            given=given,
            ignored=ignored,
            filters=urlencode([(f"q[{name}_eq]", value) for name, value in given.items() if value]),
            reasons=[reason.value for reason in DeadLetterReason],
            topics=list(topics),
        )

    async def show(request: web.Request) -> web.Response:
        letter = await dead_letter_in_full(desk.api, request)
        return desk.show(request, "dead_letter.html", view=_view(letter, {}, None))

    async def publish_again(request: web.Request) -> web.Response:
        identifier = path_id(request)
        given = _given(request)
        here = f"{LIST}/{identifier}"
        try:
            done = await republish(desk.api, asker(desk.api, request), identifier, repair_of(given) if given else Repair())
        except InvalidError as error:
            letter = await dead_letter_in_full(desk.api, request)
            return desk.show(request, "dead_letter.html", error.status, view=_view(letter, dict(error.errors), given))
        except ApiError as error:
            if error.status != 409:
                raise
            return desk.redirect(request, here, Notice("bad", str(error)))
        told = f"Published to {done.position.topic}, partition {done.position.partition}, offset {done.position.offset}."
        attempts = f"{PREFIX}/attempts?{urlencode({'q[event_id_eq]': done.event.id})}"
        return desk.redirect(request, here, Notice("good", told, href=attempts, label="Its attempts"))

    def _view(letter: DeadLetterDetail, errors: dict[str, list[str]], given: RepairInput | None) -> View:
        key, value = _shown(letter.key), _shown(letter.value)
        return View(
            letter=letter,
            advice=for_dead_letter(letter.summary.reason),
            key=key,
            value=value,
            headers=[(name, _shown(content).content) for name, content in letter.headers if name != DEAD_LETTER_HEADER],
            is_cut=is_cut(letter),
            is_event=letter.summary.topic in desk.api.topics.sources,
            draft_key=_draft(given.key if given else None, key),
            draft_value=_draft(given.value if given else None, value),
            errors=errors,
        )

    return [
        Page("GET", "/dead-letters", index, Access.VIEWER, (FILTERS, *PAGE)),
        Page("GET", "/dead-letters/{id}", show, Access.OPERATOR),
        Page("POST", "/dead-letters/{id}/republish", publish_again, Access.OPERATOR, fields=_FIELDS),
    ]


def _given(request: web.Request) -> RepairInput | None:
    """What the form says is to be published; None for the button that publishes the record as it was."""
    form = form_of(request)
    if "value" not in form:
        return None
    found = {}
    for name in ("key", "value"):
        # A browser sends every line break as CR LF; JSON is written with LF.
        content = form.get(name, "").replace("\r\n", "\n")
        encoding: Literal["text", "base64"] = "text" if form.getall(f"{name}_encoding", [_TEXT])[-1] == _TEXT else "base64"
        found[name] = BytesInput(content=content, encoding=encoding)
    # A field cannot say that there is no key; an empty one means it.
    return RepairInput(key=found["key"] if found["key"].content else None, value=found["value"])


def _shown(content: bytes | None) -> Shown:
    answer: BytesAnswer | None = None if content is None else readable(content)
    return Shown("", _TEXT) if answer is None else Shown(answer.content, answer.encoding)


def _draft(given: BytesInput | None, was: Shown) -> Shown:
    return Shown(given.content, given.encoding) if given is not None else was
