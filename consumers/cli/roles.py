"""``oms-webhooks fanout``, ``retry``, ``recorder`` and ``api`` as commands. `role_process.py` runs the roles."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from consumers.cli.role_process import role_line, run_role
from consumers.run import Role

err = Console(stderr=True)


def role_banner(role: str, url: str, first_key: str) -> RenderableType:
    """The running role, and the first admin key."""
    return Group(
        Text(role_line(role, url)),
        Text(
            "There was no admin key, so one was created. It is shown only once and is not stored. Use it to create more keys:",
            "bold yellow",
        ),
        Text(f"  OMS_WEBHOOKS_API_KEY={first_key}", "bold"),
        Text("  oms-webhooks keys create --name … --role viewer|operator|admin, or on the dashboard's API keys page"),
    )


Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        max=64,
        help="How many processes to start on this host; each uses one core. They listen on http_port and the ports above it. If one "
        "exits, the rest stop and the command exits with its code.",
    ),
]
Worker = Annotated[str, typer.Option("--worker", hidden=True, help="The name of a process that --workers started.")]


def fanout(workers: Workers = 1, worker: Worker = "") -> None:
    """Read events from Kafka, and make the first delivery attempt for every subscribed endpoint."""
    run_role(Role.FANOUT, workers, worker)


def retry(workers: Workers = 1, worker: Worker = "") -> None:
    """Retry deliveries that were not acknowledged, when they are due."""
    run_role(Role.RETRY, workers, worker)


def recorder(workers: Workers = 1, worker: Worker = "") -> None:
    """Write every attempt from Kafka to ClickHouse."""
    run_role(Role.RECORDER, workers, worker)


def api(workers: Workers = 1, worker: Worker = "") -> None:
    """Serve the HTTP API."""
    run_role(Role.API, workers, worker)


ROLES: Final = (fanout, retry, recorder, api)
