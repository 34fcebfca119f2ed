"""``oms-webhooks topics`` and ``settings``: is everything as it must be?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from consumers import show
from consumers.check import check_settings
from consumers.embedded import find_note
from consumers.roles import RoleError
from pipeline.broker.admin import TopicAdmin
from pipeline.ops.settings import Settings

out = Console()


def topics(
    create: Annotated[bool, typer.Option("--create", help="Make the topics that are missing.")] = False,
) -> None:
    """Compare the topics with what they must look like; exit code 1 when one differs."""
    chosen = reachable(Settings())
    specs = chosen.topics.specs()
    with TopicAdmin(chosen) as admin:
        created = admin.create_missing(specs) if create else []
        differences = admin.differences(specs)
    out.print(show.topics(specs, chosen.kafka_partitions, created, differences))
    sys.exit(1 if differences else 0)


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


def reachable(chosen: Settings) -> Settings:
    """The settings, with the Kafka of the pipeline that runs on this machine when none is configured."""
    if chosen.kafka_bootstrap_servers:
        return chosen
    note = find_note()
    if note is None:
        message = "No Kafka is configured and no pipeline runs on this machine; set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS."
        raise RoleError(message)
    return chosen.model_copy(update={"kafka_bootstrap_servers": note.bootstrap_servers, "kafka_partitions": note.partitions})
