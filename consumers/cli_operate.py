"""``oms-webhooks topics`` and ``settings``: is everything as it must be?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from consumers import show
from consumers.check import check_settings
from consumers.embedded import reachable
from pipeline.broker.admin import TopicAdmin, TopicError
from pipeline.ops.settings import Settings
from pipeline.store.rows import MAX_PARTITIONS
from schemas.topics import TopicSpec

out = Console()


def topics(
    create: Annotated[bool, typer.Option("--create", help="Make the topics that are missing.")] = False,
    add_partitions: Annotated[
        int,
        typer.Option(
            "--add-partitions",
            metavar="N",
            min=1,
            max=MAX_PARTITIONS,
            help="Give every topic N partitions that has fewer, but for those that must have one. Says what that means and asks.",
        ),
    ] = 0,
    topic: Annotated[list[str] | None, typer.Option("--topic", help="With --add-partitions: only this one (repeat it).")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Compare the topics with what they must look like; exit code 1 when one differs."""
    chosen = reachable(Settings())
    specs = chosen.topics.specs()
    with TopicAdmin(chosen) as admin:
        if add_partitions:
            _add_partitions(admin, _named(specs, topic or []), add_partitions, yes=yes)
            chosen = chosen.model_copy(update={"kafka_partitions": add_partitions})
        created = admin.create_missing(specs) if create else []
        differences = admin.differences(specs)
    out.print(show.topics(specs, chosen.kafka_partitions, created, differences))
    sys.exit(1 if differences else 0)


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
        typer.Option("--check", help="Connect to Kafka and ClickHouse, and say what is wrong; exit code 1 when something is."),
    ] = False,
) -> None:
    """Print every setting: its variable, value and meaning. Secrets are redacted."""
    if not check:
        out.print(show.settings(Settings()))
        return
    findings = uvloop.run(check_settings(reachable(Settings())))
    out.print(show.findings(findings))
    sys.exit(1 if any(finding.problem for finding in findings) else 0)
