"""``oms-webhooks``: the command line. It builds nothing itself; see roles (the pipeline), demo and traffic."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal, TypeVar

import typer
import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console

from consumers import cli_operate, cli_publish, cli_search, show
from consumers.api_client import ApiError
from consumers.check import NO_SETTINGS
from consumers.cli_api import dead_letters_app, endpoints_app, keys_app
from consumers.cli_backup import export_endpoints, import_endpoints
from consumers.cli_encryption import reencrypt
from consumers.cli_erase import erase
from consumers.cli_replay import replay
from consumers.demo import run_demo
from consumers.embedded import KafkaKind, surroundings
from consumers.local_notes import leave_note, note_of
from consumers.parts import NoTracingError
from consumers.roles import ALL_ROLES, Role, RoleError, Running, running
from consumers.supervisor import Supervisor
from consumers.traffic import simulate as simulate_oms
from consumers.whom import NoPipelineError, reachable
from pipeline.broker.api import BrokerError, NoSessionError, PublishError, TopicError
from pipeline.broker.local_process import BrokerStartError
from pipeline.core.listening import ListenError
from pipeline.core.signing import SigningKey
from pipeline.endpoints.registry import NewerEndpointError
from pipeline.endpoints.vault import Vault, VaultError
from pipeline.ops.descriptors import raise_descriptor_limit
from pipeline.ops.logs import configure_logs, logger
from pipeline.ops.settings import Settings
from pipeline.ops.settings_sources import refused_values, unknown_names
from pipeline.playground.receiver import Behaviour, Received, Receiver
from pipeline.store.connection import StoreError
from schemas.event import json_schema

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they may print secrets that stand in local variables
    rich_markup_mode="rich",
    help="Delivers an order management system's events as webhooks: Kafka in, HTTP out, every attempt searchable.\n\n"
    "Try it: [bold]oms-webhooks demo[/bold]. Settings are environment variables OMS_WEBHOOKS_…; list them with "
    "[bold]oms-webhooks settings[/bold].",
)
endpoints_app.command("export")(export_endpoints)
endpoints_app.command("import")(import_endpoints)
endpoints_app.command("reencrypt")(reencrypt)
app.add_typer(endpoints_app, name="endpoints", rich_help_panel="Use")
app.add_typer(cli_search.attempts_app, name="attempts", rich_help_panel="Use")
app.add_typer(dead_letters_app, name="dead-letters", rich_help_panel="Use")
app.add_typer(keys_app, name="keys", rich_help_panel="Operate")

out = Console()
err = Console(stderr=True)
log = logger(__name__)

_EXPECTED = (
    ApiError,
    BrokerStartError,
    BrokerError,
    ListenError,
    NewerEndpointError,
    NoPipelineError,
    NoTracingError,
    RoleError,
    SettingsError,
    StoreError,
    VaultError,
)


def main() -> None:
    """Run the command line; expected errors are one sentence, not a traceback."""
    raise_descriptor_limit()
    try:
        app()
    except _EXPECTED as error:
        err.print(f"[bold red]Error:[/bold red] {show.plain(_sentence(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except ValidationError as error:
        err.print("[bold red]Error:[/bold red] the settings are not valid (see `oms-webhooks settings`):")
        for finding in refused_values(error):
            place = f"{finding.what}: " if finding.what else ""
            err.print(f"  {show.plain(f'{place}{finding.problem}')}", highlight=False, soft_wrap=True)
        sys.exit(2)


def _sentence(error: BaseException) -> str:
    """What went wrong and what to do. Kafka's errors say the first only."""
    if isinstance(error, BrokerError) and not isinstance(error, NoSessionError | PublishError | TopicError):
        return f"Kafka: {error}. See what is wrong with it: oms-webhooks settings --check"
    return str(error)


def _run(work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


async def _until_signal(stop: asyncio.Event, *, is_worker: bool = False) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if is_worker:  # its standard input ends when its supervisor does, killed or not
        loop.add_reader(sys.stdin, stop.set)
    await stop.wait()
    if is_worker:
        loop.remove_reader(sys.stdin)


async def _serve(
    settings: Settings,
    roles: frozenset[Role],
    on_ready: Callable[[Running], None],
    *,
    is_worker: bool = False,
    ends_when_refused: bool = False,
) -> None:
    """Run roles until SIGINT or SIGTERM, or until one of them fails (then with exit code 1: a supervisor starts it again)."""
    signalled = asyncio.create_task(_until_signal(asyncio.Event(), is_worker=is_worker))
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
    for task in done:
        task.result()


Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        max=64,
        help="So many processes on this host; a process uses one core. They listen on http_port and the ports above it. One that ends "
        "ends all, with its exit code.",
    ),
]
Worker = Annotated[str, typer.Option("--worker", hidden=True, help="The name of a process that --workers started.")]


def _role(role: Role, workers: int, worker: str) -> None:
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format, worker)
    if not worker:  # its supervisor has said it
        for unknown in unknown_names(NO_SETTINGS):
            log.warning("a name has no effect", name=unknown.what, problem=unknown.problem)
    if workers > 1:
        supervisor = Supervisor(role.value, workers, http_port=settings.http_port, drain_seconds=settings.drain_seconds)
        sys.exit(_run(supervisor.run()))
    name = worker or role.value

    def ready(pipeline: Running) -> None:
        err.print(show.role_banner(name, pipeline.url, pipeline.first_key))

    # In the log, as everything that this process says: whoever collects it reads lines of one form.
    try:
        _run(_serve(settings, frozenset({role}), ready, is_worker=bool(worker)))
    except _EXPECTED as error:
        log.error("the role ends", role=name, problem=_sentence(error))  # noqa: TRY400 - the problem says it all
        sys.exit(1)
    except Exception:
        log.exception("the role ends", role=name)
        sys.exit(1)


@app.command(rich_help_panel="Run")
def fanout(workers: Workers = 1, worker: Worker = "") -> None:
    """Take events from Kafka and make the first attempt at every endpoint that subscribed."""
    _role(Role.FANOUT, workers, worker)


@app.command(rich_help_panel="Run")
def retry(workers: Workers = 1, worker: Worker = "") -> None:
    """Repeat what was not acknowledged, when it is due."""
    _role(Role.RETRY, workers, worker)


@app.command(rich_help_panel="Run")
def recorder(workers: Workers = 1, worker: Worker = "") -> None:
    """Write every attempt from Kafka to ClickHouse."""
    _role(Role.RECORDER, workers, worker)


@app.command(rich_help_panel="Run")
def api(workers: Workers = 1, worker: Worker = "") -> None:
    """Serve the HTTP API."""
    _role(Role.API, workers, worker)


@app.command("all", rich_help_panel="Run")
def all_roles(
    kafka: Annotated[KafkaKind, typer.Option(help="The broker to start when no Kafka is configured.")] = "embedded",
) -> None:
    """Run every role in this process; without a configured Kafka, on an embedded broker.

    It waits for a Kafka and a ClickHouse that are away, and ends when one of them refuses it: a wrong password, a right that is missing.
    """
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    with surroundings(settings, kafka) as here:
        key = here.settings.api_keys[0].get_secret_value()

        async def serve() -> None:
            note = None

            def ready(pipeline: Running) -> None:
                nonlocal note
                url = pipeline.url
                note = leave_note(note_of(here.settings, url))
                note.__enter__()
                err.print(show.banner(here, url, key if not settings.api_keys else None))

            try:
                await _serve(here.settings, ALL_ROLES, ready, ends_when_refused=True)
            finally:
                if note is not None:
                    note.__exit__(None, None, None)

        _run(serve())


@app.command(rich_help_panel="Run")
def demo(
    kafka: Annotated[KafkaKind, typer.Option(help="embedded, or apache (needs Java 17 and Maven).")] = "embedded",
    seconds: Annotated[float, typer.Option(help="End after this long, with a summary; 0: run until Ctrl-C.")] = 0,
    rate: Annotated[float, typer.Option(help="Events a second.")] = 5,
) -> None:
    """Run the whole pipeline with a simulated OMS and two receivers, one of which fails at times."""
    sys.exit(run_demo(out, kafka=kafka, seconds=seconds or None, rate=rate))


app.command("sql", rich_help_panel="Use")(cli_search.sql)


app.command(rich_help_panel="Use")(cli_publish.publish)


@app.command(rich_help_panel="Use")
def simulate(
    rate: Annotated[float, typer.Option(min=0.01, help="Events a second.")] = 10,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long; default: run until Ctrl-C.")] = None,
    count: Annotated[int | None, typer.Option(help="Stop after this many events.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed lives the same story.")] = 1,
) -> None:
    """Be an OMS: publish realistic order lifecycles and stock moves."""
    settings = reachable(Settings(), "Publishing to")

    def tell(event: Any) -> None:
        out.print(f"{event.occurred_at:%H:%M:%S}  {event.event_name.value:34} {event.key}", highlight=False)

    try:
        published = _run(simulate_oms(settings, rate=rate, seed=seed, seconds=seconds, count=count, on_event=tell))
    except KeyboardInterrupt:
        return
    out.print(f"Published {published:,} events.")


def _signing_secret(secret: str | None) -> str | None:
    if secret is not None:
        try:
            SigningKey(secret)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return secret


@app.command(rich_help_panel="Use")
def receiver(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0: any.")] = 9000,
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="OMS_WEBHOOKS_RECEIVER_SECRET",
            help="The endpoint's signing secret, to check signatures: whsec_ and 24 to 64 bytes in base64.",
            callback=_signing_secret,
        ),
    ] = None,
    fail_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of attempts that fail.")] = 0,
    fail_first: Annotated[int, typer.Option(min=0, help="Fail the first so many attempts of each event.")] = 0,
    failure: Annotated[Literal["status", "hang", "reset"], typer.Option(help="What a failing attempt meets.")] = "status",
    status: Annotated[int, typer.Option(min=300, max=599, help="Status code of a failing answer.")] = 500,
    delay: Annotated[float, typer.Option(min=0, help="Seconds before any answer.")] = 0,
) -> None:
    """Be an endpoint: print what arrives, verify signatures, fail as told."""
    behaviour = Behaviour(fail_rate=fail_rate, fail_first=fail_first, failure=failure, status=status, delay=delay)

    def tell(received: Received) -> None:
        out.print(f"{received.webhook_id}  attempt {received.attempt}  {received.outcome}  {received.reason}", highlight=False)

    async def serve() -> None:
        endpoint = Receiver("receiver", secret, behaviour, on_delivery=tell)
        out.print(f"Listening at {await endpoint.start(port=port)} (Ctrl-C ends it)")
        await _until_signal(asyncio.Event())
        await endpoint.stop()

    _run(serve())


app.command("topics", rich_help_panel="Operate")(cli_operate.topics)
app.command("replay", rich_help_panel="Operate")(replay)
app.command("erase", rich_help_panel="Operate")(erase)
app.command("settings", rich_help_panel="Operate")(cli_operate.settings)
app.command("grants", rich_help_panel="Operate")(cli_operate.grants)
app.command("migrate", rich_help_panel="Operate")(cli_operate.migrate_now)
app.command("retention", rich_help_panel="Operate")(cli_operate.retention)
app.command("sizing", rich_help_panel="Operate")(cli_operate.sizing)


@app.command(rich_help_panel="Operate")
def schema() -> None:
    """Print the JSON Schema of the events that producers publish."""
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


@app.command("new-key", rich_help_panel="Operate")
def new_key() -> None:
    """Make a key for OMS_WEBHOOKS_ENCRYPTION_KEY."""
    sys.stdout.write(Vault.new_key() + "\n")
