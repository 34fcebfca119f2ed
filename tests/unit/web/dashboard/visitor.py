"""A browser without a screen: it keeps cookies, reads forms, and sends them as they are on the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode

import aiohttp

from tests.unit.web.service import API_KEY, Service


@dataclass(slots=True)
class Form:
    """A form of a page: its target and its field values."""

    method: str
    action: str
    fields: list[tuple[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    """Finds forms and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.words: list[str] = []
        self._is_in_form = False
        self._select = ""
        self._area: tuple[str, list[str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(values.get("method", "get"), values.get("action", "")))
            self._is_in_form = True
        elif not self._is_in_form:
            return
        elif tag == "textarea":
            self._area = (values["name"], [])
        elif tag == "select":
            self._select = values["name"]
        elif tag == "option" and "selected" in values:
            self.forms[-1].fields.append((self._select, values["value"]))
        elif tag in ("input", "button") and "name" in values and self._is_sent(values):
            value = values.get("value", "on")
            if tag == "input" and values.get("type") not in ("hidden", "checkbox", "radio"):
                value = value.replace("\r", "").replace("\n", "")  # as browsers do
            self.forms[-1].fields.append((values["name"], value))

    def _is_sent(self, values: Mapping[str, str]) -> bool:
        return values.get("type") not in ("checkbox", "radio") or "checked" in values

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_in_form = False
        if tag == "textarea" and self._area is not None:
            name, parts = self._area
            self.forms[-1].fields.append((name, "".join(parts).removeprefix("\n")))
            self._area = None

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._area[1].append(data)
        self.words += data.split()


@dataclass(slots=True)
class Seen:
    """A page as it was received, after all redirects."""

    status: int
    path: str
    html: str
    headers: Mapping[str, str]
    redirects: int

    @property
    def text(self) -> str:
        """The visible text, with single spaces."""
        return " ".join(self._read().words)

    @property
    def forms(self) -> list[Form]:
        """All forms."""
        return self._read().forms

    def form(self, action: str) -> Form:
        """The form with this target path."""
        (found,) = [form for form in self.forms if form.action == action]
        return found

    def _read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.html)
        return reader


Fields = Mapping[str, str | Sequence[str]]


@dataclass(slots=True)
class Visitor:
    """A person with a browser."""

    browser: aiohttp.ClientSession
    seen: Seen | None = None

    async def go(self, path: str, method: str = "GET", *, follow: bool = True, **options: object) -> Seen:
        """Request a page."""
        async with self.browser.request(method, path, allow_redirects=follow, **options) as response:  # type: ignore[arg-type]
            path = response.url.raw_path_qs
            self.seen = Seen(response.status, path, await response.text(), response.headers, len(response.history))
            return self.seen

    async def send(self, action: str, fields: Fields | None = None, *, follow: bool = True) -> Seen:
        """Fill in a form of the current page, and send it."""
        assert self.seen is not None
        form = self.seen.form(action)
        given = {name: [value] if isinstance(value, str) else list(value) for name, value in (fields or {}).items()}
        pairs = [(name, value) for name, value in form.fields if name not in given]
        pairs += [(name, value) for name, values in given.items() for value in values]
        return await self.post(form.action, pairs, follow=follow)

    async def post(self, path: str, pairs: Sequence[tuple[str, str]], *, follow: bool = True) -> Seen:
        """Send fields as a form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self.go(path, "POST", follow=follow, data=urlencode(pairs), headers=headers)

    async def log_in(self, key: str = API_KEY, wanted: str = "/webhooks/endpoints") -> Seen:
        """Log in with a key."""
        await self.go("/webhooks/login?" + urlencode({"next": wanted}))
        return await self.send("/webhooks/login", {"key": key})


@asynccontextmanager
async def visiting(service: Service) -> AsyncIterator[Visitor]:
    """A browser without cookies."""
    # By default, aiohttp does not keep cookies of hosts that are IP addresses.
    async with aiohttp.ClientSession(service.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        yield Visitor(browser)
