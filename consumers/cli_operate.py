"""``oms-webhooks topics``, ``settings``, ``grants``, ``migrate``, ``retention``, ``sizing``: is everything as it must be?"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import uvloop
from pydantic import ValidationError

from consumers import show
from consumers.begin_anew import begin_topic_anew
from consumers.check import NO_SETTINGS, check_settings
from consumers.grants import Grantee, clickhouse_grants, kafka_rights
from consumers.printing import Output
from consumers.roles import RoleError
from consumers.whom import NoPipelineError, reachable
from pipeline.broker.api import TopicAdmin, TopicError
from pipeline.broker.choice import open_broker
from pipeline.core.sizing import Costs, Deployment, Load, size
from pipeline.ops.clock import utc_now
from pipeline.ops.reach import Finding
from pipeline.ops.settings import Settings
from pipeline.ops.settings_sources import refused_values, unknown_names
from pipeline.store.connection import Connections
from pipeline.store.migrate import migrate
from pipeline.store.retention import Retention, Week
from pipeline.store.rows import MAX_PARTITIONS
from schemas.topics import TopicSpec

out = Output()


def topics(
    create: Annotated[bool, typer.Option("--create", help="Make the topics that are missing.")] = False,
    add_partitions: Annotated[
        int | None,
        typer.Option(
            "--add-partitions",
            metavar="N",
            min=1,
            max=MAX_PARTITIONS,
            help="Give every topic N partitions that has fewer, but for those that must have one. Says what that means and asks.",
        ),
    ] = None,
    begin_anew: Annotated[
        str | None,
        typer.Option(
            "--begin-anew",
            metavar="TOPIC",
            help="Accept a topic that was deleted and created again. It is read from its beginning. Explains what that means, and asks first.",
        ),
    ] = None,
    topic: Annotated[list[str] | None, typer.Option("--topic", help="With --add-partitions: only this one (repeat it).")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Compare the topics with what they must look like; exit code 1 when one differs."""
    chosen = reachable(Settings())
    specs = chosen.topics.specs()
    if begin_anew:
        uvloop.run(begin_topic_anew(chosen, begin_anew, confirm=lambda text: yes or _confirmed(text)))
        out.print(f"{begin_anew} begins anew. Roles that waited go on by themselves within 15 s.")
        return
    with open_broker(chosen).admin() as admin:
        if add_partitions:
            _add_partitions(admin, _named(specs, topic or []), add_partitions, yes=yes)
            chosen = chosen.model_copy(update={"kafka_partitions": add_partitions})
        created = admin.create_missing(specs) if create else []
        differences = admin.differences(specs)
    out.print(show.topics(specs, chosen.kafka_partitions, created, differences))
    sys.exit(1 if differences else 0)


def _confirmed(text: str) -> bool:
    out.print(text)
    return typer.confirm("Begin it anew?", abort=True)


def _named(specs: Sequence[TopicSpec], names: Sequence[str]) -> Sequence[TopicSpec]:
    """The topics of these names; all without any.

    Raises:
        TopicError: there is no such topic, or it has one partition for good.
    """
    by_name = {spec.name: spec for spec in specs}
    for name in names:
        if name not in by_name:
            raise TopicError(f"{name} is no topic of ours; `oms-webhooks topics` lists them.")
        if by_name[name].partitions == 1:
            message = (
                f"{name} must have one partition: its order is the order of all changes. With a second one, two processes could read two "
                "orders. It is small; more processes read it, each as a whole."
            )
            raise TopicError(message)
    return [by_name[name] for name in names] if names else specs


def _add_partitions(admin: TopicAdmin, specs: Sequence[TopicSpec], wanted: int, *, yes: bool) -> None:
    planned = admin.planned_growth(specs, wanted)
    if not planned:
        out.print(f"Every topic has {wanted} partitions or more: nothing to do.")
        return
    out.print(show.growth(planned))
    if not yes:
        typer.confirm("Add them?", abort=True)
    admin.grow(planned)


def settings(
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Connect to Kafka and ClickHouse, and say what is wrong, with names and values of settings too. Exit code 1 when something "
            "is, 0 when nothing is.",
        ),
    ] = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="As a file for OMS_WEBHOOKS_SETTINGS_FILE: every setting described, no secrets.")
    ] = False,
) -> None:
    """Print every setting: its variable, value and meaning. Secrets are redacted.

    Settings are variables OMS_WEBHOOKS_…, such variables in a file .env of the working directory, lines of a TOML file that
    OMS_WEBHOOKS_SETTINGS_FILE names, or, for secrets, files in the directory OMS_WEBHOOKS_SECRETS_DIR; what comes first here goes
    before what comes later.
    """
    if toml:
        sys.stdout.write(Settings().toml())
        return
    if not check:
        out.print(show.settings(Settings()))
        return
    findings = _findings()
    out.print(show.findings(findings))
    sys.exit(1 if any(finding.problem for finding in findings) else 0)


def _findings() -> list[Finding]:
    """Everything that the check finds: also where values do not fit, and nothing can be connected to."""
    try:
        chosen = Settings()
    except ValidationError as error:
        return unknown_names(NO_SETTINGS) + [Finding(each.what or "Settings", each.problem) for each in refused_values(error)]
    try:
        return uvloop.run(check_settings(reachable(chosen)))
    except NoPipelineError as error:
        return [*uvloop.run(check_settings(chosen)), Finding("Kafka", str(error))]


def grants(
    role: Annotated[list[Grantee] | None, typer.Option("--role", help="Whose (repeat it). Default: all.")] = None,
    kafka_principal: Annotated[
        str, typer.Option(help="The principal that the ACLs are for; {role} stands for the role.")
    ] = "User:webhooks-{role}",
    clickhouse_user: Annotated[str, typer.Option(help="The user or role of ClickHouse; {role} as above.")] = "webhooks_{role}",
) -> None:
    """Print the least rights of each role, as commands for Kafka and statements for ClickHouse.

    They come from the topics and tables of these settings; nothing is connected to. Read them, then run them as an administrator.
    Whoever runs a role without the rights of the operator makes topics (`topics --create`) and tables (`migrate`) beforehand.
    """
    chosen = Settings()
    servers = chosen.kafka_bootstrap_servers or "HOST:PORT"
    for grantee in role or list(Grantee):
        sys.stdout.write(f"# {grantee.value}\n")
        principal = kafka_principal.replace("{role}", grantee.value)
        for right in kafka_rights(grantee, chosen.topics):
            sys.stdout.write(right.command(shlex.quote(principal), servers) + "\n")
        user = clickhouse_user.replace("{role}", grantee.value)
        for statement in clickhouse_grants(grantee, chosen.clickhouse_database, user, chosen.clickhouse_cluster):
            sys.stdout.write(statement + ";\n")


def migrate_now() -> None:
    """Make and upgrade the tables of ClickHouse, as the recorder and the API do at their start when they have the right to."""
    chosen = Settings()
    if not chosen.clickhouse_url:
        raise RoleError("No ClickHouse server is configured; set OMS_WEBHOOKS_CLICKHOUSE_URL.")

    async def apply() -> tuple[str, ...]:
        connections = Connections(chosen)
        try:
            return await migrate(connections)
        finally:
            await connections.close()

    applied = uvloop.run(apply())
    out.print("\n".join(f"applied {name}" for name in applied) or "The tables are up to date.", highlight=False)


def retention(
    days: Annotated[
        int | None, typer.Option(min=1, help="Another number than the setting retention_days, to try it out.")
    ] = None,
) -> None:
    """Say which weeks of ClickHouse are older than they are kept, and how many rows they have. Deletes nothing; the recorder does."""
    chosen = Settings()
    if not chosen.clickhouse_url:
        raise RoleError("No ClickHouse server is configured; set OMS_WEBHOOKS_CLICKHOUSE_URL.")
    kept = days or chosen.retention_days

    async def look() -> tuple[Week, ...]:
        connections = Connections(chosen)
        try:
            return await Retention(connections, kept).expired(utc_now())
        finally:
            await connections.close()

    weeks = uvloop.run(look())
    for week in weeks:
        out.print(f"{week.table.value}: {week.rows:,} rows of the week from {week.begins}", highlight=False)
    total = sum(week.rows for week in weeks)
    out.print(
        f"{total:,} rows are in weeks that are older than {kept} days." if weeks else f"Nothing is older than {kept} days.",
        highlight=False,
    )


def sizing(
    events: Annotated[float, typer.Option(min=0.001, help="Events a second at the peak.")] = 100,
    deliveries: Annotated[float, typer.Option(min=0, help="Endpoints that an event matches, on average.")] = 2.0,
    attempts: Annotated[float, typer.Option(min=1, max=6, help="Attempts a delivery takes, on average.")] = 1.15,
    body_bytes: Annotated[int, typer.Option(min=1, help="Bytes of a body, on average.")] = 2_000,
    average: Annotated[float, typer.Option(min=0.001, max=1, help="The average of the day, as a share of the peak.")] = 0.3,
    days: Annotated[int | None, typer.Option(min=1, help="How long ClickHouse keeps it. Default: retention_days.")] = None,
    delivery_us: Annotated[
        float, typer.Option(min=1, help="CPU of a delivery, as `make bench` measures it.")
    ] = Costs().delivery_us,
) -> None:
    """Say how many processes, partitions and how much disk a load needs (docs/sizing.md has the model)."""
    load = Load(events, average, deliveries, attempts, body_bytes)
    kept = Deployment(retention_days=days or Settings().retention_days)
    out.print(show.sizing(size(load, Costs(delivery_us=delivery_us), kept)))
