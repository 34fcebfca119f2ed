"""Pages that are the same for everyone and are rendered once, with inline style and a policy that allows only that style."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_LOADER: Final = PackageLoader("pipeline.web")
_TEMPLATES: Final = Environment(loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_POLICY: Final = "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class StaticPage:
    """A page, and the Content-Security-Policy that allows its style and nothing else."""

    text: str
    policy: str
    tag: str
    """The ETag of its content."""

    def response(self) -> web.Response:
        """Answer with the page. It may be cached for five minutes."""
        headers = {"Content-Security-Policy": self.policy, "Cache-Control": "public, max-age=300"}
        response = web.Response(text=self.text, content_type="text/html", headers=headers)
        response.etag = self.tag
        return response


def static_page(template: str, styles: Sequence[str], **values: object) -> StaticPage:
    """Render a template with style sheets from the same folder. The template puts ``style`` into its only style element."""
    style = "".join(_LOADER.get_source(_TEMPLATES, name)[0] for name in styles)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    text = _TEMPLATES.get_template(template).render(style=style, **values)
    return StaticPage(text, _POLICY.format(digest=digest), hashlib.sha256(text.encode()).hexdigest()[:24])


def fragment(template: str, **values: object) -> Markup:
    """Render a template as part of a page."""
    return Markup(_TEMPLATES.get_template(template).render(**values))  # noqa: S704 - the template escapes its values
