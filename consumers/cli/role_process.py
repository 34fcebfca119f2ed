"""A role as a process, such as ``oms-webhooks fanout``, without the rest of the command line.

To start quickly, this module imports little: no part of the command line, and nothing that only formats text for people.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import uvloop
from pydantic_settings import SettingsError

from consumers.cli.command_variables import NON_SETTING_VARIABLES
from consumers.run import Role, RoleError, Running, running
from consumers.wiring import NoTracingError
from pipeline.broker.errors import BrokerError, NoSessionError, PublishError, TopicError
from pipeline.core.listen_errors import ListenError
from pipeline.endpoints.registry import NewerEndpointError
from pipeline.endpoints.vault import VaultError
from pipeline.ops.logs import configure_logs, logger
from pipeline.ops.settings import Settings
from pipeline.ops.settings_sources import unknown_names
from pipeline.store.errors import StoreError

log = logger(__name__)

_DASHBOARD: Final = "/webhooks"

EXPECTED: Final = (
    BrokerError,
    ListenError,
    NewerEndpointError,
    NoTracingError,
    RoleError,
    SettingsError,
    StoreError,
    VaultError,
)
"""Errors whose messages say what is wrong and what to do."""


def sentence(error: BaseException) -> str:
    """What went wrong and what to do. Kafka's errors only say what went wrong."""
    if isinstance(error, BrokerError) and not isinstance(error, NoSessionError | PublishError | TopicError):
        return f"Kafka: {error}. To find the problem, run: oms-webhooks settings --check"
    return str(error)


async def until_signal(stop: asyncio.Event, *, is_worker: bool = False) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if is_worker:  # its standard input closes when its supervisor exits, even if it is killed
        loop.add_reader(sys.stdin, stop.set)
    await stop.wait()
    if is_worker:
        loop.remove_reader(sys.stdin)


async def serve(
    settings: Settings,
    roles: frozenset[Role],
    on_ready: Callable[[Running], None],
    *,
    is_worker: bool = False,
    ends_when_refused: bool = False,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Run roles until SIGINT or SIGTERM, or until one of them fails. Then the exit code is 1, so that a supervisor can restart it.

    ``on_stop`` is called before deliveries in progress are finished.
    """
    signalled = asyncio.create_task(until_signal(asyncio.Event(), is_worker=is_worker))
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(stack.enter_async_context(running(settings, roles, ends_when_refused=ends_when_refused)))
        await asyncio.wait([signalled, starting], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        pipeline = await starting
        on_ready(pipeline)
        failed = asyncio.create_task(pipeline.until_failed())
        done, _ = await asyncio.wait([signalled, failed], return_when=asyncio.FIRST_COMPLETED)
        on_stop()
    for task in done:
        task.result()


def warn_of_unknown_names() -> None:
    """Log each variable that is named like a setting but is not one. It is probably a typo, and it has no effect."""
    for unknown in unknown_names(NON_SETTING_VARIABLES):
        log.warning("a name has no effect", name=unknown.what, problem=unknown.problem)


def run_role(role: Role, workers: int = 1, worker: str = "") -> None:
    """Run a role until a signal stops it. ``worker`` is the name of a process that --workers started."""
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format, worker)
    if not worker:  # the supervisor of a worker has logged them
        warn_of_unknown_names()
    if workers > 1:
        from consumers.cli.supervisor import Supervisor  # noqa: PLC0415 - most processes have none

        supervisor = Supervisor(role.value, workers, http_port=settings.http_port, drain_seconds=settings.drain_seconds)
        sys.exit(uvloop.run(supervisor.run()))
    name = worker or role.value

    def ready(pipeline: Running) -> None:
        _say_that_it_runs(name, pipeline)

    # In the log, so that all output of this process has the same format.
    try:
        uvloop.run(serve(settings, frozenset({role}), ready, is_worker=bool(worker)))
    except EXPECTED as error:
        log.error("the role ends", role=name, problem=sentence(error))  # noqa: TRY400 - the problem says it all
        sys.exit(1)
    except Exception:
        log.exception("the role ends", role=name)
        sys.exit(1)


def _say_that_it_runs(name: str, pipeline: Running) -> None:
    """Print to standard error, for people. Text formatting is loaded only for the first key, which must not be overlooked."""
    if pipeline.first_key is None:
        print(role_line(name, pipeline.url), file=sys.stderr, flush=True)  # noqa: T201
        return
    from consumers.cli.roles import err, role_banner  # noqa: PLC0415

    err.print(role_banner(name, pipeline.url, pipeline.first_key))


def dashboard_url(url: str) -> str:
    """Where the dashboard is, below the address of the API."""
    return f"{url.rstrip('/')}{_DASHBOARD}"


def role_line(role: str, url: str) -> str:
    """What runs, in one line."""
    return f"{role}: health and metrics at {url}" + (f", dashboard at {dashboard_url(url)}" if role == Role.API else "")
