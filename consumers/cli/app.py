"""``oms-webhooks``: the command line. It builds nothing itself; see roles (the pipeline), demo and traffic."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any, Final, Literal

import typer
import uvloop
from rich.console import Console
from rich.text import Text

from consumers.cli import live, operate, publish, search, tables
from consumers.cli.api_client import ApiCallError, Key, Url
from consumers.cli.backup import export_endpoints, import_endpoints
from consumers.cli.confirmation import NoAnswerError
from consumers.cli.console import visible
from consumers.cli.dead_letters import dead_letters_app
from consumers.cli.demo import run_demo
from consumers.cli.discovery import NoPipelineError, command_settings, print_notice, reachable
from consumers.cli.doctor import doctor
from consumers.cli.embedded import KafkaKind, embedded_services
from consumers.cli.encryption import reencrypt
from consumers.cli.endpoints import endpoints_app
from consumers.cli.erase import erase
from consumers.cli.event_types import event_types_app
from consumers.cli.keys import keys_app
from consumers.cli.known_event_types import ASK, no_pipeline, refuse_lost_options, types_of_pipeline, with_types_on_kafka
from consumers.cli.option_groups import grouped
from consumers.cli.option_values import not_blank
from consumers.cli.plain_errors import PlainErrorsGroup
from consumers.cli.replay import replay
from consumers.cli.role_process import EXPECTED, serve, until_signal, warn_of_unknown_names
from consumers.cli.roles import ROLES, err
from consumers.cli.runtime_files import leave_note, note_of
from consumers.cli.signatures import endpoints_certificate, endpoints_rotate, endpoints_rotate_key_pair, endpoints_sign
from consumers.cli.traffic import simulate as simulate_oms
from consumers.run import ALL_ROLES, Running
from pipeline.core.counted import counted
from pipeline.core.signing import SigningKey
from pipeline.devtools.local_process import BrokerStartError
from pipeline.devtools.receiver import Behaviour, Received, Receiver
from pipeline.devtools.receiver_checks import ReceiverChecks
from pipeline.endpoints.vault import Vault
from pipeline.ops.logs import configure_logs, logger
from pipeline.ops.settings import Settings

app = typer.Typer(
    cls=PlainErrorsGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they may print secrets from local variables
    rich_markup_mode="rich",
    help="Delivers an order management system's events as webhooks: Kafka in, HTTP out, every attempt searchable.\n\n"
    "Try it: [bold]oms-webhooks demo[/bold]. Settings are environment variables OMS_WEBHOOKS_…; list them with "
    "[bold]oms-webhooks settings[/bold].",
)
endpoints_app.command("rotate")(endpoints_rotate)
endpoints_app.command("rotate-key-pair")(endpoints_rotate_key_pair)
endpoints_app.command("sign")(endpoints_sign)
endpoints_app.command("certificate")(endpoints_certificate)
endpoints_app.command("export")(export_endpoints)
endpoints_app.command("import")(import_endpoints)
endpoints_app.command("reencrypt")(reencrypt)
app.add_typer(endpoints_app, name="endpoints", rich_help_panel="Use")
app.add_typer(search.attempts_app, name="attempts", rich_help_panel="Use")
app.add_typer(dead_letters_app, name="dead-letters", rich_help_panel="Use")
app.add_typer(keys_app, name="keys", rich_help_panel="Operate")
app.add_typer(event_types_app, name="event-types", rich_help_panel="Operate")

out = Console()


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"oms-webhooks {version('oms-webhooks')}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


log = logger(__name__)

ALL_EXPECTED = (*EXPECTED, ApiCallError, BrokerStartError, NoAnswerError, NoPipelineError)


for _role in ROLES:
    app.command(rich_help_panel="Run")(_role)


@app.command("all", rich_help_panel="Run")
def all_roles(
    kafka: Annotated[
        KafkaKind | None, typer.Option(help="The broker to start when no Kafka is configured. Default: embedded.")
    ] = None,
) -> None:
    """Run every role in this process. If no Kafka is configured, an embedded broker is started.

    The command waits while Kafka or ClickHouse is unavailable. It exits if one of them refuses access (a wrong password, a missing right).
    With a configured Kafka, it needs OMS_WEBHOOKS_ENCRYPTION_KEY.
    """
    settings = Settings()
    _configure_logs_of_all(settings)
    warn_of_unknown_names()
    with embedded_services(settings, kafka) as here:
        key = here.settings.api_keys[0].get_secret_value()

        async def serve_all() -> None:
            note = None

            def ready(pipeline: Running) -> None:
                nonlocal note
                url = pipeline.url
                note = leave_note(note_of(here.settings, url))
                note.__enter__()
                err.print(tables.banner(here, url, key if not settings.api_keys else None))

            try:
                await serve(here.settings, ALL_ROLES, ready, ends_when_refused=True, on_stop=_tell_of_stop)
            finally:
                if note is not None:
                    note.__exit__(None, None, None)

        try:
            uvloop.run(serve_all())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None  # Ctrl-C was pressed twice


def _tell_of_stop() -> None:
    """Say what is awaited. Another Ctrl-C ends that."""
    err.print("Stopping when the deliveries in progress are finished. Press Ctrl-C again to stop immediately.", soft_wrap=True)
    if (main := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, main.cancel)


def _configure_logs_of_all(settings: Settings) -> None:
    """On a terminal, the user is trying it out: show text and warnings, unless the settings say otherwise."""
    is_terminal, given = sys.stderr.isatty(), settings.model_fields_set
    level = "warning" if is_terminal and "log_level" not in given else settings.log_level
    configure_logs(level, "console" if is_terminal and "log_format" not in given else settings.log_format)


@app.command(rich_help_panel="Run")
def demo(
    kafka: Annotated[
        KafkaKind | None, typer.Option(help="The broker to start. apache needs Java 17 and Maven. Default: embedded.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Stop after this long and print a summary. 0: run until Ctrl-C.")] = 0,
    rate: Annotated[float, typer.Option(min=0.01, max=10_000, help="Events per second.")] = 5,
) -> None:
    """Run the whole pipeline with a simulated OMS and two receivers. One of the receivers fails sometimes."""
    sys.exit(run_demo(out, kafka=kafka, seconds=seconds or None, rate=rate))


app.command("sql", rich_help_panel="Use")(search.sql)
app.command("tail", rich_help_panel="Use")(live.tail)
app.command("open", rich_help_panel="Use")(live.open_page)
app.command("doctor", rich_help_panel="Operate")(doctor)


app.command(rich_help_panel="Use")(publish.publish)


@app.command(rich_help_panel="Use")
def simulate(
    rate: Annotated[float, typer.Option(min=0.01, help="Events per second.")] = 10,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after this long. Default: run until Ctrl-C.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this many events.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed. The same seed publishes the same events.")] = 1,
) -> None:
    """Act as an OMS: publish realistic orders, shipments and stock changes, and samples of the event types that you added."""
    chosen = reachable(command_settings(), "Publishing to")
    settings, problem = with_types_on_kafka(chosen)
    if problem:
        print_notice(
            f"Event types that were added with the API could not be read from Kafka, so they are not published: {problem}."
        )
    if added := [name for name in settings.event_types.configured if name not in chosen.event_types.configured]:
        print_notice(f"Also publishing the event types that were added with the API: {', '.join(added)}.")

    def tell(event: Any) -> None:
        out.print(f"{event.occurred_at:%H:%M:%S}  {event.event_name.value:34} {event.key}", highlight=False)

    try:
        published = uvloop.run(simulate_oms(settings, rate=rate, seed=seed, seconds=seconds, count=count, on_event=tell))
    except KeyboardInterrupt:
        return
    out.print(f"Published {counted(published, 'event')}.")


def _signing_secret(secret: str | None) -> str | None:
    if secret is not None:
        try:
            SigningKey(secret)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return secret


@dataclass(frozen=True, slots=True)
class BehaviourOptions:
    """How the receiver answers."""

    fail_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of attempts that fail.")] = 0
    fail_first: Annotated[int, typer.Option(min=0, help="How many attempts of each event to fail first.")] = 0
    failure: Annotated[
        Literal["status", "hang", "reset"] | None,
        typer.Option(help="How an attempt fails: with a status code (default), without a response, or with a connection reset."),
    ] = None
    status: Annotated[int | None, typer.Option(min=300, max=599, help="Status code of a failed attempt. Default: 500.")] = None
    delay: Annotated[float, typer.Option(min=0, help="Seconds to wait before each response.")] = 0

    def behaviour(self) -> Behaviour:
        """Raises typer.BadParameter if an option would have no effect."""
        if (self.failure or self.status) and not (self.fail_rate or self.fail_first):
            raise typer.BadParameter("Use them with --fail-rate or --fail-first.", param_hint="--failure, --status")
        if self.status and self.failure in ("hang", "reset"):
            raise typer.BadParameter(f"--failure {self.failure} has no status code.", param_hint="--status")
        return Behaviour(self.fail_rate, self.status or 500, self.delay, self.fail_first, self.failure or "status")


def received_line(received: Received) -> Text:
    """A request to the receiver, as a line. The sender chose the id, which may look like markup."""
    return visible(f"{received.webhook_id}  attempt {received.attempt}  {received.outcome}  {received.reason}")


_USUAL_ANSWERS: Final = BehaviourOptions()


@dataclass(frozen=True, slots=True)
class ReceiverCheckOptions:
    """What the receiver checks besides the signature with the secret."""

    basic: Annotated[
        str | None,
        typer.Option(envvar="OMS_WEBHOOKS_RECEIVER_BASIC", help="HTTP Basic: the user:password to require.", callback=not_blank),
    ] = None
    header_key: Annotated[
        str | None,
        typer.Option(
            envvar="OMS_WEBHOOKS_RECEIVER_HEADER_KEY",
            help="API key to require: the header's name, a colon, the key.",
            callback=not_blank,
        ),
    ] = None
    public_key: Annotated[
        str | None, typer.Option(help="The endpoint's public key (whpk_…), to verify v1a signatures.", callback=not_blank)
    ] = None
    allow_origin: Annotated[
        str | None, typer.Option(help="Accept CloudEvents handshakes from this origin. *: from any.", callback=not_blank)
    ] = None

    def checks(self) -> ReceiverChecks:
        """Raises typer.BadParameter if an option is malformed."""
        try:
            return ReceiverChecks(self.basic or "", self.header_key or "", self.public_key or "", self.allow_origin or "")
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None


_NO_CHECKS: Final = ReceiverCheckOptions()


@app.command(rich_help_panel="Use")
@grouped
def receiver(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1. 0: any free port.")] = 9000,
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="OMS_WEBHOOKS_RECEIVER_SECRET",
            help="The endpoint's signing secret, to verify signatures: whsec_ and 24 to 64 bytes in base64.",
            callback=_signing_secret,
        ),
    ] = None,
    checks: ReceiverCheckOptions = _NO_CHECKS,
    answers: BehaviourOptions = _USUAL_ANSWERS,
) -> None:
    """Act as an endpoint: print the requests that arrive, verify signatures and credentials, and fail on demand."""
    behaviour, asked = answers.behaviour(), checks.checks()

    def tell(received: Received) -> None:
        out.print(received_line(received), soft_wrap=True)

    async def serve() -> None:
        endpoint = Receiver("receiver", secret, behaviour, on_delivery=tell)
        endpoint.checks = asked
        out.print(f"Listening at {await endpoint.start(port=port)} (press Ctrl-C to stop)")
        await until_signal(asyncio.Event())
        await endpoint.stop()

    uvloop.run(serve())


app.command("topics", rich_help_panel="Operate")(operate.topics)
app.command("replay", rich_help_panel="Operate")(replay)
app.command("erase", rich_help_panel="Operate")(erase)
app.command("settings", rich_help_panel="Operate")(operate.settings)
app.command("grants", rich_help_panel="Operate")(operate.grants)
app.command("migrate", rich_help_panel="Operate")(operate.migrate_now)
app.command("retention", rich_help_panel="Operate")(operate.retention)


@app.command(rich_help_panel="Operate")
def schema(
    context: typer.Context,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use only the event types in the settings. Do not ask a pipeline.")
    ] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Print the JSON Schema of the events that producers publish, including event types that were added to the running pipeline."""
    refuse_lost_options(context, offline=offline)
    settings = command_settings()
    types = settings.event_types
    if not offline:
        if (problem := no_pipeline(url)) is None:
            try:
                types = types_of_pipeline(settings, url, api_key)
            except ApiCallError as error:
                raise ApiCallError(
                    f"{error} Use --offline to print only the event types in the settings.", error.status
                ) from None
        else:
            print_notice(f"Only the event types in the settings: {problem}. {ASK}")
    sys.stdout.write(json.dumps(types.published_schema(), indent=2) + "\n")


@app.command("new-key", rich_help_panel="Operate")
def new_key() -> None:
    """Create a key for OMS_WEBHOOKS_ENCRYPTION_KEY."""
    sys.stdout.write(Vault.new_key() + "\n")
