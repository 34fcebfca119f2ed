"""Runs commands of ``oms-webhooks`` as a person with an admin key."""

from __future__ import annotations

import asyncio
from typing import Protocol

from typer.testing import CliRunner, Result

from consumers.cli.app import app
from tests.unit.web.service import API_KEY


class Command(Protocol):
    """Runs a command; ``stdin`` is its standard input."""

    def __call__(self, *arguments: str, stdin: str | None = None) -> asyncio.Future[Result]: ...


def command_for(url: str) -> Command:
    """Commands that call the API at ``url``."""

    def command(*arguments: str, stdin: str | None = None) -> asyncio.Future[Result]:
        env = {"OMS_WEBHOOKS_API_URL": url, "OMS_WEBHOOKS_API_KEY": API_KEY, "COLUMNS": "200", "NO_COLOR": "1"}
        return asyncio.ensure_future(asyncio.to_thread(lambda: CliRunner().invoke(app, arguments, env=env, input=stdin)))

    return command
