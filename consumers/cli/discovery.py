"""Whom a command speaks to: what it was told, or the pipeline on this machine. It says so, and asks when there are several."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import typer

from consumers.cli.runtime_files import RunNote, find_notes
from consumers.cli.standard_input import is_terminal
from pipeline.ops.settings import Settings
from pipeline.ops.settings_sources import place_of

API_URL: Final = "OMS_WEBHOOKS_API_URL"
API_PATH: Final = "/api/webhook"


class NoPipelineError(Exception):
    """No pipeline is known, or several; ``str(error)`` says what to set."""


def say(text: str) -> None:
    """A line on stderr: it is in the way of no output."""
    sys.stderr.write(f"{text}\n")


def local_pipeline(url: str | None = None) -> RunNote | None:
    """The pipeline on this machine: the one at ``url``, the only one there is, or the one that is chosen of several.

    Raises:
        NoPipelineError: there are several, and nobody to ask.
    """
    notes = find_notes()
    if url:
        return next((note for note in notes if root_of(note.url) == root_of(url)), None)
    if len(notes) > 1:
        return _chosen(notes)
    return notes[0] if notes else None


def root_of(url: str) -> str:
    """What stands before the path of the API, however much of it was given."""
    return url.rstrip("/").removesuffix(API_PATH).rstrip("/")


def _chosen(notes: Sequence[RunNote]) -> RunNote:
    lines = [f"  {number}. {note}" for number, note in enumerate(notes, 1)]
    if not (is_terminal() and sys.stderr.isatty()):
        message = f"Several pipelines run on this machine; say which one, such as {API_URL}={notes[0].url}:\n"
        raise NoPipelineError(message + "\n".join(lines))
    say("Several pipelines run on this machine:\n" + "\n".join(lines))
    number = 0
    while not 1 <= number <= len(notes):
        number = int(typer.prompt(f"Which one (1 to {len(notes)})", type=int, err=True))
    return notes[number - 1]


def reachable(settings: Settings, doing: str = "Using") -> Settings:
    """The settings, with the Kafka of the pipeline that runs on this machine when none is configured. Says which one it is.

    Raises:
        NoPipelineError: none runs, or several and none is chosen.
    """
    if settings.kafka_bootstrap_servers:
        say(f"{doing} Kafka at {settings.kafka_bootstrap_servers} ({place_of('kafka_bootstrap_servers')}).")
        return settings
    url = os.environ.get(API_URL)
    note = local_pipeline(url)
    if note is None:
        found = f"no pipeline of this machine is at {url} ({API_URL})" if url else "no pipeline runs on this machine"
        raise NoPipelineError(f"No Kafka is configured, and {found}; set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS.")
    say(f"{doing} Kafka at {note.bootstrap_servers}, of {note}.")
    kafka = {
        "kafka_bootstrap_servers": note.bootstrap_servers,
        "kafka_partitions": note.partitions,
        "kafka_topic_prefix": note.topic_prefix,
        **note.delays_read(),
    }
    return settings.model_copy(update=kafka)
