"""Answers as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from pydantic import BaseModel


def answer(body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with a model as JSON."""
    return web.Response(
        body=body.model_dump_json().encode(), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )
