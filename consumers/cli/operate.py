"""``oms-webhooks topics``, ``settings``, ``grants``, ``migrate``, ``retention``: prepare and check a deployment."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

import typer
import uvloop
from pydantic import ValidationError

from consumers.cli import json_answers, tables
from consumers.cli.command_variables import NON_SETTING_VARIABLES
from consumers.cli.confirmation import Yes, confirmed
from consumers.cli.console import Output
from consumers.cli.discovery import NoPipelineError, command_settings, print_notice, reachable
from consumers.cli.known_event_types import with_types_on_kafka
from consumers.cli.option_groups import grouped
from consumers.cli.option_values import AsPlainJson, not_blank
from consumers.cli.recreated_topics import accept_recreated_topic
from consumers.cli.settings_check import check_settings
from consumers.grants import Grantee, clickhouse_grants, kafka_rights
from consumers.run import RoleError
from pipeline.broker.errors import TopicError
from pipeline.broker.factory import open_broker
from pipeline.broker.topic_admin import TopicAdmin
from pipeline.core.counted import counted
from pipeline.ops.clock import utc_now
from pipeline.ops.event_types_file import added_topic_problem
from pipeline.ops.reachability import CheckResult
from pipeline.ops.settings import Settings
from pipeline.ops.settings_sources import refused_values, unknown_names
from pipeline.store.connection import Connections
from pipeline.store.migrate import migrate
from pipeline.store.retention import Retention, Week
from pipeline.store.rows import MAX_PARTITIONS
from schemas.topics import TopicSpec

out = Output()

NO_KAFKA: Final = "Kafka"
"""The check that a Kafka is configured, or runs on this machine."""

EventTopics = Annotated[
    list[str] | None,
    typer.Option(
        "--event-topic",
        metavar="TOPIC",
        help="Also include this topic of an event type that is added with the API, without the prefix. Can be repeated.",
    ),
]


@dataclass(frozen=True, slots=True)
class RecreatedTopic:
    """A topic to accept, by the name of the option or by its former name."""

    accepted: Annotated[
        str | None,
        typer.Option(
            "--accept-recreated",
            metavar="TOPIC",
            callback=not_blank,
            help="Accept a topic that was deleted and created again. It is read from its beginning. Explains the effects, and asks first.",
        ),
    ] = None
    begin_anew: Annotated[str | None, typer.Option("--begin-anew", hidden=True, callback=not_blank)] = None

    def name(self) -> str | None:
        """Raises typer.BadParameter if two topics are given."""
        if self.accepted and self.begin_anew:
            raise typer.BadParameter("Use it only once. --begin-anew is its former name.", param_hint="--accept-recreated")
        return self.accepted or self.begin_anew


_NO_TOPIC: Final = RecreatedTopic()


@dataclass(frozen=True, slots=True)
class AddedPartitions:
    """How many partitions topics get, and which topics."""

    add_partitions: Annotated[
        int | None,
        typer.Option(
            "--add-partitions",
            metavar="N",
            min=1,
            max=MAX_PARTITIONS,
            help="Add partitions to every topic with fewer than N, except topics that must have one. Explains the effects, and asks first.",
        ),
    ] = None
    topic: Annotated[
        list[str] | None, typer.Option("--topic", help="With --add-partitions: only this topic. Can be repeated.")
    ] = None

    def number(self) -> int | None:
        """Raises typer.BadParameter if topics are given without a number."""
        if self.topic and not self.add_partitions:
            raise typer.BadParameter("It needs --add-partitions N.", param_hint="--topic")
        return self.add_partitions


_NO_PARTITIONS: Final = AddedPartitions()


def _check_effect(*, is_asking: bool, yes: bool, as_json: bool) -> None:
    """Raises typer.BadParameter for options that do not fit: ``is_asking``, whether the command asks before it changes something."""
    if yes and not is_asking:
        raise typer.BadParameter(
            "It needs --add-partitions N or --accept-recreated TOPIC. Nothing else asks.", param_hint="--yes"
        )
    if as_json and is_asking:
        raise typer.BadParameter("It cannot be combined with --add-partitions or --accept-recreated.", param_hint="--json")


@grouped
def topics(
    create: Annotated[bool, typer.Option("--create", help="Create missing topics.")] = False,
    added: AddedPartitions = _NO_PARTITIONS,
    recreated: RecreatedTopic = _NO_TOPIC,
    event_topic: EventTopics = None,
    yes: Yes = False,
    as_json: AsPlainJson = False,
) -> None:
    """Compare the topics with their required configuration. The exit code is 1 if one differs.

    Topics of event types that were added with the API are included, if this command may read the topic webhooks.event-types.
    """
    accepted, add_partitions = recreated.name(), added.number()
    if accepted is not None and (create or add_partitions or event_topic):
        raise typer.BadParameter(
            "It cannot be combined with --create, --add-partitions or --event-topic.", param_hint="--accept-recreated"
        )
    _check_effect(is_asking=bool(add_partitions or accepted), yes=yes, as_json=as_json)
    chosen, problem = with_types_on_kafka(reachable(command_settings()))
    if problem:
        print_notice(f"Topics of event types that were added with the API are not included ({problem}).")
    specs = chosen.topics_with(_event_topics(event_topic)).specs()
    if accepted:
        uvloop.run(accept_recreated_topic(chosen, accepted, confirm=lambda text: yes or _accepts(text)))
        out.print(f"{accepted} is accepted as a new topic. Roles that waited for this continue within 15 s.")
        return
    with open_broker(chosen).admin() as admin:
        grown = specs
        if add_partitions:
            named = _named(specs, added.topic or [])
            _add_partitions(admin, named, add_partitions, yes=yes)
            least = max(add_partitions, chosen.kafka_partitions)
            grown = tuple(replace(spec, partitions=spec.partitions or least) if spec in named else spec for spec in specs)
        created = admin.create_missing(grown) if create else []
        differences = admin.differences(specs)  # the settings may require fewer partitions, but not more
    if as_json:
        out.print_data(json_answers.topics(grown, chosen.kafka_partitions, created, differences))
    else:
        out.print(tables.topics(grown, chosen.kafka_partitions, created, differences))
    sys.exit(1 if differences else 0)


def _event_topics(given: Sequence[str] | None) -> Sequence[str]:
    for topic in given or ():
        if problem := added_topic_problem(topic):
            raise typer.BadParameter(problem, param_hint="--event-topic")
    return given or ()


def _accepts(text: str) -> bool:
    out.print(text)
    if not confirmed("Accept the new topic?", yes=False):
        raise typer.Abort
    return True


def _named(specs: Sequence[TopicSpec], names: Sequence[str]) -> Sequence[TopicSpec]:
    """The topics with these names, or all topics if no name is given.

    Raises:
        TopicError: there is no such topic, or the topic must have one partition.
    """
    by_name = {spec.name: spec for spec in specs}
    for name in names:
        if name not in by_name:
            raise TopicError(f"{name} is not one of our topics; `oms-webhooks topics` lists them.")
        if by_name[name].partitions == 1:
            message = (
                f"{name} must have one partition, because its order is the order of all changes. With a second partition, two processes "
                "could see different orders. The topic is small, and each process reads all of it."
            )
            raise TopicError(message)
    return [by_name[name] for name in names] if names else specs


def _add_partitions(admin: TopicAdmin, specs: Sequence[TopicSpec], wanted: int, *, yes: bool) -> None:
    planned = admin.planned_growth(specs, wanted)
    if not planned:
        out.print(f"Every topic has at least {counted(wanted, 'partition')}. There is nothing to do.")
        return
    out.print(tables.growth(planned))
    if not confirmed("Add them?", yes=yes):
        raise typer.Abort
    admin.grow(planned)


def settings(
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Connect to Kafka and ClickHouse, and list problems, including settings with wrong names or values. The exit code is 1 if "
            "there are problems.",
        ),
    ] = False,
    toml: Annotated[
        bool,
        typer.Option(
            "--toml", help="Print a file for OMS_WEBHOOKS_SETTINGS_FILE that describes every setting. It contains no secrets."
        ),
    ] = False,
    as_json: AsPlainJson = False,
) -> None:
    """Print every setting: its variable, value and meaning. Secrets are redacted.

    Settings come from four sources, in order of precedence: variables OMS_WEBHOOKS_…; the same variables in a file .env in the working
    directory; the TOML file that OMS_WEBHOOKS_SETTINGS_FILE names; and, for secrets, files in the directory OMS_WEBHOOKS_SECRETS_DIR.
    """
    if toml and (check or as_json):
        raise typer.BadParameter(f"Use {'--check' if check else '--json'} or --toml, not both.")
    if toml:
        sys.stdout.write(command_settings().toml())
        return
    if not check:
        current = command_settings()
        out.print_data(json_answers.settings(current)) if as_json else out.print(tables.settings(current))
        return
    findings = all_findings()
    out.print_data(json_answers.findings(findings)) if as_json else out.print(tables.findings(findings))
    sys.exit(1 if any(finding.problem for finding in findings) else 0)


def all_findings() -> list[CheckResult]:
    """All findings of the check. If settings are not valid, only those problems, because nothing can be connected to."""
    try:
        chosen = Settings()
    except ValidationError as error:
        return unknown_names(NON_SETTING_VARIABLES) + [
            CheckResult(each.what or "Settings", each.problem) for each in refused_values(error)
        ]
    try:
        return uvloop.run(check_settings(reachable(chosen)))
    except NoPipelineError as error:
        return [*uvloop.run(check_settings(chosen)), CheckResult(NO_KAFKA, str(error))]


def grants(
    role: Annotated[
        list[Grantee] | None, typer.Option("--role", help="Role to print rights for. Can be repeated. Default: all.")
    ] = None,
    kafka_principal: Annotated[
        str, typer.Option(help="Kafka principal of the ACLs. {role} stands for the role.", callback=not_blank)
    ] = "User:webhooks-{role}",
    clickhouse_user: Annotated[
        str, typer.Option(help="ClickHouse user or role. {role} stands for the role.", callback=not_blank)
    ] = "webhooks_{role}",
    event_topic: EventTopics = None,
) -> None:
    """Print the minimum rights of each role, as commands for Kafka and statements for ClickHouse.

    They are derived from the settings; the command connects to nothing. Use --event-topic to include topics of event types that are
    added with the API. Review the output, then run it as an administrator.
    If a role runs without the rights to create topics and tables, create them first with `topics --create` and `migrate`.
    """
    chosen = command_settings()
    servers = chosen.kafka_bootstrap_servers or "HOST:PORT"
    topics = chosen.topics_with(_event_topics(event_topic))
    for grantee in role or list(Grantee):
        sys.stdout.write(f"# {grantee.value}\n")
        principal = kafka_principal.replace("{role}", grantee.value)
        for right in kafka_rights(grantee, topics):
            sys.stdout.write(right.command(shlex.quote(principal), servers) + "\n")
        user = clickhouse_user.replace("{role}", grantee.value)
        for statement in clickhouse_grants(grantee, chosen.clickhouse_database, user, chosen.clickhouse_cluster):
            sys.stdout.write(statement + ";\n")


def migrate_now() -> None:
    """Create and upgrade the ClickHouse tables. The recorder and the API do the same when they start, if they have the right."""
    chosen = command_settings()
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
        int | None, typer.Option(min=1, max=365_000, help="Number of days to use instead of OMS_WEBHOOKS_RETENTION_DAYS.")
    ] = None,
    as_json: AsPlainJson = False,
) -> None:
    """List the weeks in ClickHouse that are past their retention, with row counts. Nothing is deleted; the recorder does that."""
    chosen = command_settings()
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
    if as_json:
        out.print_data(json_answers.retention(weeks, kept))
        return
    for week in weeks:
        out.print(f"{week.table.value}: {counted(week.rows, 'row')} of the week from {week.begins}", highlight=False)
    total, limit = sum(week.rows for week in weeks), counted(kept, "day")
    out.print(
        f"{counted(total, 'row is', 'rows are')} in weeks that are older than {limit}."
        if weeks
        else f"Nothing is older than {limit}.",
        highlight=False,
    )
