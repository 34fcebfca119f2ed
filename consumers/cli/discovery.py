"""Find the pipeline for a command: the one that was named, or the one on this machine. If there are several, ask."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from typing import Final

import typer

from consumers.cli.command_variables import NON_SETTING_VARIABLES
from consumers.cli.runtime_files import RunNote, find_notes
from consumers.cli.standard_input import is_terminal
from pipeline.ops.settings import Settings
from pipeline.ops.settings_sources import setting_source, unknown_names

API_URL: Final = "OMS_WEBHOOKS_API_URL"
API_KEY: Final = "OMS_WEBHOOKS_API_KEY"
API_PATH: Final = "/api/webhook"


class NoPipelineError(Exception):
    """No pipeline was found, or several were. ``str(error)`` says what to set."""


def print_notice(text: str) -> None:
    """Print a line to stderr, so that stdout holds only results."""
    sys.stderr.write(f"{text}\n")


def command_settings() -> Settings:
    """The settings, for a command that uses them. Prints each name that is probably a misspelt setting, and so has no effect: with a
    misspelt prefix or database, the command works on another one.
    """
    settings = Settings()
    for unknown in unknown_names(NON_SETTING_VARIABLES):
        print_notice(f"{unknown.what}: {unknown.problem}")
    return settings


def local_pipeline(url: str | None = None) -> RunNote | None:
    """The pipeline on this machine: the one at ``url``, the only one, or the one that the user chooses.

    Raises:
        NoPipelineError: there are several, and no terminal to ask on.
    """
    notes = find_notes()
    if url:
        return next((note for note in notes if root_of(note.url) == root_of(url)), None)
    if len(notes) > 1:
        return _chosen(notes)
    return notes[0] if notes else None


def root_of(url: str) -> str:
    """The URL without the path of the API, or any part of that path."""
    return url.rstrip("/").removesuffix(API_PATH).rstrip("/")


def _chosen(notes: Sequence[RunNote]) -> RunNote:
    lines = [f"  {number}. {note}" for number, note in enumerate(notes, 1)]
    if not (is_terminal() and sys.stderr.isatty()):
        message = f"Several pipelines are running on this machine. Choose one, for example with {API_URL}={notes[0].url}:\n"
        raise NoPipelineError(message + "\n".join(lines))
    return notes[_asked(tuple(lines)) - 1]


@functools.cache
def _asked(lines: tuple[str, ...]) -> int:
    """The number of the pipeline that the user chooses. A command that needs the pipeline twice asks once."""
    print_notice("Several pipelines are running on this machine:\n" + "\n".join(lines))
    number = 0
    while not 1 <= number <= len(lines):
        number = int(typer.prompt(f"Which one (1 to {len(lines)})", type=int, err=True))
    return number


def reachable(settings: Settings, doing: str = "Using") -> Settings:
    """The settings. If they name no Kafka, with the Kafka of the pipeline on this machine. Prints which one is used.

    Raises:
        NoPipelineError: no pipeline runs, or several run and none was chosen.
    """
    if settings.kafka_bootstrap_servers:
        print_notice(f"{doing} Kafka at {settings.kafka_bootstrap_servers} ({setting_source('kafka_bootstrap_servers')}).")
        return settings
    url = os.environ.get(API_URL)
    note = local_pipeline(url)
    if note is None:
        found = f"no pipeline on this machine is at {url} ({API_URL})" if url else "no pipeline is running on this machine"
        raise NoPipelineError(f"No Kafka is configured, and {found}. Set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS.")
    print_notice(f"{doing} Kafka at {note.bootstrap_servers}, of {note}.")
    kafka = {
        "kafka_bootstrap_servers": note.bootstrap_servers,
        "kafka_partitions": note.partitions,
        "kafka_topic_prefix": note.topic_prefix,
        **note.delays_read(),
    }
    return settings.model_copy(update=kafka)
