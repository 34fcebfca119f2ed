"""``oms-webhooks endpoints export`` and ``import``: a backup of the endpoints, and putting it back."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import track

from consumers.cli.api_client import ApiCallError, Key, Url, client_for
from consumers.cli.console import Output, Rows
from consumers.cli.standard_input import read_text
from schemas.codec import InvalidRecordError, from_json
from schemas.endpoint_backup import BackupHeader

out = Output()
err = Console(stderr=True)

_AT_ONCE: Final = 20
_MOST_BYTES: Final = 500_000
"""Of one request; the API takes 1 MiB."""
_SECONDS: Final = 300.0
_WORDS: Final = {
    "create": "created",
    "update": "changed back",
    "keep": "left as they are, though they differ (--overwrite changes them back)",
    "none": "there, as they were",
    "refuse": "refused",
}


class BackupError(ApiCallError):
    """A file is not a backup, is incomplete, or cannot be read or written; ``str(error)`` says why."""


def export_endpoints(
    file: Annotated[Path, typer.Argument(help="Where to write the backup; - writes it to standard output.")],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Write a backup of all endpoints (an admin key is needed).

    Secrets are in it, encrypted with the encryption key: keep that key elsewhere, the file is of no use without it.
    """
    with client_for(url, api_key) as client:
        text = client.text("backups/endpoints", seconds=_SECONDS)
    _, lines = read_backup(text)
    if str(file) == "-":
        sys.stdout.write(text)
        return
    _write_whole(file, text)
    out.print(f"{len(lines)} endpoints are in {file}.", markup=False, highlight=False, soft_wrap=True)


def import_endpoints(
    file: Annotated[Path, typer.Argument(help="A backup; - reads it from standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also change endpoints back that are there and differ, their secrets too.")
    ] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Put the endpoints of a backup back (an admin key is needed); exit code 1 when one was refused.

    Missing ones are created, with their id where nobody else has it. It may be run again: what is there is left alone.
    """
    _, lines = read_backup(_read(file))
    done: list[Mapping[str, Any]] = []
    with client_for(url, api_key) as client:
        for batch in track(list(_batches(lines)), "endpoints", console=err, transient=True):
            wanted = {"restore": {"endpoints": batch, "overwrite": overwrite, "dry_run": dry_run}}
            done += client.call("POST", "backups/endpoints", json=wanted, seconds=_SECONDS)["restored"]
    steps = Counter(one["step"] for one in done)
    if steps.keys() - {"none"}:
        out.print(_table(done))
    for step, words in _WORDS.items():
        if steps[step]:
            out.print(f"{steps[step]} {words}", highlight=False)
    if dry_run:
        out.print("Nothing was changed: this was a dry run.")
    raise typer.Exit(1 if steps["refuse"] else 0)


def read_backup(text: str) -> tuple[BackupHeader, list[Any]]:
    """The header and the lines of a backup.

    Raises:
        BackupError: it is none, or not a whole one.
    """
    # Not splitlines(): a description may hold a line separator (U+2028), and JSON leaves it as it is.
    first, *rest = text.removesuffix("\n").split("\n")
    try:
        header = from_json(first.encode(), BackupHeader)
        lines = [json.loads(line) for line in rest]
    except InvalidRecordError:
        raise BackupError(
            "This is not a backup of endpoints, or it is one of another version: its first line does not say so."
        ) from None
    except ValueError as error:
        raise BackupError(f"The backup is damaged: a line is not JSON ({error}).") from None
    if len(lines) != header.endpoints:
        raise BackupError(f"The backup is not whole: it should hold {header.endpoints} endpoints and holds {len(lines)}.")
    return header, lines


def _read(file: Path) -> str:
    try:
        return read_text() if str(file) == "-" else file.read_text("utf-8")
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise BackupError(f"{file} is not a backup of endpoints: it is not text.") from None


def _write_whole(file: Path, text: str) -> None:
    """All of it or nothing: a backup that was there stays until the new one is whole. Only its owner may read it."""
    try:
        if file.is_dir():
            raise BackupError(f"{file} is a directory; name a file in it.")
        part = file.with_name(f"{file.name}.part")
        part.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            part.replace(file)
        finally:  # also after Ctrl-C: there are secrets in it
            part.unlink(missing_ok=True)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}. No backup was made.") from error


def _batches(lines: Sequence[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    size = 0
    for line in lines:
        length = len(json.dumps(line))
        if batch and (len(batch) == _AT_ONCE or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += length
    if batch:
        yield batch


def _table(done: Sequence[Mapping[str, Any]]) -> Rows:
    rows = Rows("id", "target_url", "what", "here", "differs in / why", folded=("target_url", "differs in / why"))
    for one in done:
        if one["step"] == "none":
            continue
        here = str(one["restored_as"]) if one["restored_as"] else ("a new id" if one["step"] == "create" else "")
        details = one["reason"] or ", ".join(one["differences"])
        rows.add(str(one["id"]), one["target_url"], one["step"], here, details)
    return rows
