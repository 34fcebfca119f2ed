"""Renders our own documents as HTML: Markdown with tables, anchors for headings, and links that work on the page. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False}).enable("table")
_MARKER: Final = re.compile(r"^<!-- page: ([a-z]+) -->\n", re.MULTILINE)
_NO_SLUG: Final = re.compile(r"[^a-z0-9 _-]")


class LinkError(ValueError):
    """A document links to another file, and ``links`` has no replacement for it."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: its level (1 to 6), its anchor, and its text."""

    level: int
    slug: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document as HTML, and its headings in order."""

    html: Markup
    headings: Sequence[Heading]


def render(text: str, *, inserts: Mapping[str, Markup], links: Mapping[str, str]) -> Document:
    """Render a document as HTML. HTML in the document is escaped.

    Args:
        text: Markdown. The line ``<!-- page: NAME -->`` is replaced with an insert.
        inserts: HTML by name.
        links: replacements of links to other files. Links to headings and to other sites stay as they are.

    Raises:
        LinkError: a link to a file that is not in ``links``.
        KeyError: an insert is missing.
    """
    # Parts at even positions are text; parts at odd positions are names.
    parts = _MARKER.split(text)
    html: list[str] = []
    headings: list[Heading] = []
    for place, part in enumerate(parts):
        if place % 2:
            html.append(inserts[part])
            continue
        tokens = _MARKDOWN.parse(part)
        headings += _marked_headings(tokens)
        _point_links(tokens, links)
        # Only code blocks have <pre>, because HTML is escaped. With tabindex, long lines can be scrolled with the keyboard.
        html.append(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}).replace("<pre>", '<pre tabindex="0">'))
    return Document(Markup("".join(html)), headings)  # noqa: S704 - the renderer escapes, and inserts are HTML


def _marked_headings(tokens: Sequence[Token]) -> Iterable[Heading]:
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            heading = Heading(int(opening.tag[1:]), _slug(inline.content), inline.content)
            opening.attrSet("id", heading.slug)
            yield heading


def _slug(text: str) -> str:
    """The anchor that GitHub gives a heading, so that links work in both places."""
    return _NO_SLUG.sub("", text.lower()).replace(" ", "-")


def _point_links(tokens: Iterable[Token], links: Mapping[str, str]) -> None:
    for token in tokens:
        _point_links(token.children or (), links)
        if token.type != "link_open":
            continue
        target = str(token.attrGet("href"))
        if target.startswith(("#", "https://")):
            continue
        if target not in links:
            raise LinkError(f"The document links to {target}, but the page has no replacement for this link. Add one to `links`.")
        token.attrSet("href", links[target])
