"""``/webhooks/dead-letters``: records that could not be used, with the reason and the bytes; repair and publish them again, or dismiss them."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import urlencode

from aiohttp import web

from pipeline.store.reports.recent import DeadLetterDetail
from pipeline.web.advice import for_dead_letter
from pipeline.web.api.dead_letters import dead_letter_in_full, dead_letter_page, readable, repair_of
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.event_editor import TextProblem, event_problems
from pipeline.web.dashboard.json_format import pretty
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.text_filters import iso, words
from pipeline.web.dashboard.visible_text import visible_in_json
from pipeline.web.errors import ApiError, InvalidError, not_found
from pipeline.web.request_values import path_id
from pipeline.web.resending import Repair, is_cut
from pipeline.web.routes import FILTERS, PAGE
from pipeline.web.search_errors import searching
from pipeline.web.services import DeadLetterServices
from schemas.api_key import Access
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetterReason
from schemas.http.dead_letters import BytesAnswer, BytesInput, RepairInput

LIST: Final = f"{PREFIX}/dead-letters"
_TEXT: Final = "text"
_REPAIRED: Final = "repaired"
_FIELDS: Final = ("key", "key_encoding", "value", "value_encoding", _REPAIRED)
"""``repaired``: when the dead letter was repaired, as far as the page knew."""


@dataclass(frozen=True, slots=True)
class ShownBytes:
    """Bytes to show, and the encoding to edit them in."""

    content: str
    encoding: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The problems of the text in the editor. If it was checked and has none, ``event`` describes the event."""

    problems: Sequence[TextProblem] = ()
    event: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """The content of a dead letter's page. ``errors`` are sentences for each field of the form."""

    letter: DeadLetterDetail
    advice: str
    key: ShownBytes | None
    value: ShownBytes | None
    headers: Sequence[tuple[str, str]]
    is_cut: bool
    is_event: bool
    """Whether it came from a source topic, so that it can be published again."""
    draft_key: ShownBytes
    draft_value: ShownBytes
    errors: dict[str, list[str]]
    checked: Checked
    repaired_by: str
    is_refused: bool = False
    """Whether publishing it was refused."""
    is_overtaken: bool = False
    """Whether publishing it was refused because somebody else had published or dismissed it since the page was loaded."""


def dead_letter_pages(renderer: PageRenderer, api: DeadLetterServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""
    handlers, one = _Handlers(renderer, api), "/dead-letters/{id}"
    return [
        DashboardPage("GET", "/dead-letters", handlers.index, Access.VIEWER, (FILTERS, *PAGE)),
        DashboardPage("GET", one, handlers.show, Access.OPERATOR),
        DashboardPage("POST", f"{one}/check", handlers.check, Access.OPERATOR, fields=(*_FIELDS, "do", "part")),
        DashboardPage("POST", f"{one}/republish", handlers.publish_again, Access.OPERATOR, fields=_FIELDS),
        DashboardPage("POST", f"{one}/dismiss", handlers.dismiss, Access.OPERATOR),
    ]


class _Handlers:
    def __init__(self, renderer: PageRenderer, api: DeadLetterServices) -> None:
        self._renderer = renderer
        self._api = api

    async def index(self, request: web.Request) -> web.Response:
        # Repaired dead letters have their own list.
        page, given, ignored = await dead_letter_page(self._api, request, default=False)
        topics = dict.fromkeys([*self._api.events.sources, *([given["topic"]] if given["topic"] else [])])
        return self._renderer.show(
            request,
            "dead_letters.html",
            page=page,
            given=given,
            ignored=ignored,
            filters=urlencode([(f"q[{name}_eq]", value) for name, value in given.items() if value and name != "repaired"]),
            reasons=[reason.value for reason in DeadLetterReason],
            topics=list(topics),
        )

    async def show(self, request: web.Request) -> web.Response:
        letter = await dead_letter_in_full(self._api, request)
        return self._renderer.show(request, "dead_letter.html", view=self._view(letter, None, self._as_it_came(letter)))

    async def check(self, request: web.Request) -> web.Response:
        """Report the problems of the text, and format it if requested. Nothing is published."""
        form, given = form_of(request), _given(request)
        if given is None or given.value is None:
            raise ApiError(422, "The value to check is missing.")
        value = given.value
        if form.get("do") == "format" and value.encoding == _TEXT:
            value = value.model_copy(update={"content": pretty(value.content)})
        if "part" in form:  # no audit record while somebody types, because opening the page was recorded
            async with searching(self._api):
                known = await self._api.reports.dead_letter(path_id(request))
            if known is None:
                raise not_found()
            return self._renderer.show(request, "dead_letter_problems.html", checked=self._checked(known, value))
        letter = await dead_letter_in_full(self._api, request)
        view = self._view(letter, given.model_copy(update={"value": value}), self._checked(letter, value))
        return self._renderer.show(request, "dead_letter.html", view=view)

    async def publish_again(self, request: web.Request) -> web.Response:
        api, identifier, given = self._api, path_id(request), _given(request)
        here = f"{LIST}/{identifier}"
        if await self._is_overtaken(request):
            letter = await dead_letter_in_full(api, request)
            view = replace(self._view(letter, given, self._as_it_came(letter)), is_overtaken=True)
            return self._renderer.show(request, "dead_letter.html", 409, view=view)
        try:
            done = await api.resender.republish(api.audit.actor(request), identifier, repair_of(given) if given else Repair())
        except InvalidError as error:
            return await self._refused(request, error, given)
        except ApiError as error:
            if error.status != 409:
                raise
            return self._renderer.redirect(request, here, Notice("bad", str(error)))
        text = f"Published again to {done.position.topic}."
        attempts = f"{PREFIX}/attempts?{urlencode({'q[event_id_eq]': done.event.id})}"
        return self._renderer.redirect(request, here, Notice("good", text, href=attempts, label="View attempts"))

    async def _is_overtaken(self, request: web.Request) -> bool:
        """Whether it was repaired since the page was loaded. If both publish it, each endpoint gets the event twice."""
        known = form_of(request).get(_REPAIRED)
        if known is None:  # the page was loaded before an upgrade
            return False
        async with searching(self._api):
            letter = await self._api.reports.dead_letter(path_id(request))
        done = letter.summary.repaired if letter is not None else None
        return done is not None and iso(done.at) != known

    async def _refused(self, request: web.Request, error: InvalidError, given: RepairInput | None) -> web.Response:
        letter = await dead_letter_in_full(self._api, request)
        found = self._checked(letter, given.value) if given is not None and given.value is not None else self._as_it_came(letter)
        # Do not repeat a problem that is shown at its place in the text.
        errors = {name: sentences for name, sentences in error.errors.items() if name != "value" or not found.problems}
        view = replace(self._view(letter, given, found), errors=errors, is_refused=True)
        return self._renderer.show(request, "dead_letter.html", error.status, view=view)

    async def dismiss(self, request: web.Request) -> web.Response:
        await self._api.resender.dismiss(self._api.audit.actor(request), path_id(request))
        return self._renderer.redirect(
            request, LIST, Notice("good", "Dismissed. The record disappears from this list within a few seconds.")
        )

    def _view(self, letter: DeadLetterDetail, given: RepairInput | None, checked: Checked) -> DeadLetterView:
        is_event = letter.summary.topic in self._api.events.sources
        key, value, done = _shown(letter.key), _shown(letter.value), letter.summary.repaired
        return DeadLetterView(
            letter=letter,
            advice=for_dead_letter(letter.summary.reason, is_event=is_event),
            key=key,
            value=value,
            headers=[(name, _shown(content).content) for name, content in letter.headers if name != DEAD_LETTER_HEADER],
            is_cut=is_cut(letter),
            is_event=is_event,
            draft_key=_draft(given.key if given else None, _for_one_line(key)),
            draft_value=_draft(given.value if given else None, _for_editor(value)),
            errors={},
            checked=checked,
            repaired_by="" if done is None else done.name or self._api.audit.person(done.actor),
        )

    def _as_it_came(self, letter: DeadLetterDetail) -> Checked:
        if letter.value is None or letter.summary.topic not in self._api.events.sources or is_cut(letter):
            return Checked()
        shown = _for_editor(_shown(letter.value))
        found = self._checked(letter, BytesInput(content=shown.content, encoding=shown.encoding))
        return Checked(found.problems)

    def _checked(self, letter: DeadLetterDetail, value: BytesInput) -> Checked:
        event_of = functools.partial(self._api.resender.event_of, letter)
        try:
            content = value.decoded()
            found = event_problems(content.decode(), event_of)
        except UnicodeDecodeError:
            return Checked((TextProblem("The value is not UTF-8 text."),))
        except ValueError as error:
            return Checked((TextProblem(str(error)),))
        if found:
            return Checked(found)
        event = event_of(content)
        about = f" {event.order_number}" if event.order_number else ""
        return Checked(event=f"{words(event.event_name)}{about}, event {event.id}")


def _given(request: web.Request) -> RepairInput | None:
    """The key and value in the form. None for the button that publishes the record unchanged."""
    form = form_of(request)
    if "value" not in form:
        return None
    found = {}
    for name in ("key", "value"):
        # A browser sends every line break as CR LF; JSON is written with LF.
        content = form.get(name, "").replace("\r\n", "\n")
        encoding: Literal["text", "base64"] = "text" if form.getall(f"{name}_encoding", [_TEXT])[-1] == _TEXT else "base64"
        found[name] = BytesInput(content=content, encoding=encoding)
    # A form field cannot be absent: an empty one means that there is no key.
    return RepairInput(key=found["key"] if found["key"].content else None, value=found["value"])


def _shown(content: bytes | None) -> ShownBytes:
    answer: BytesAnswer | None = None if content is None else readable(content)
    return ShownBytes("", _TEXT) if answer is None else ShownBytes(answer.content, answer.encoding)


def _for_editor(was: ShownBytes) -> ShownBytes:
    return replace(was, content=visible_in_json(was.content)) if was.encoding == _TEXT else was


def _for_one_line(was: ShownBytes) -> ShownBytes:
    """A browser removes line breaks from a field of one line, which would change the key without a word."""
    if was.encoding != _TEXT or not set("\r\n") & set(was.content):
        return was
    return ShownBytes(base64.b64encode(was.content.encode()).decode(), "base64")


def _draft(given: BytesInput | None, was: ShownBytes) -> ShownBytes:
    return ShownBytes(given.content, given.encoding) if given is not None else was
