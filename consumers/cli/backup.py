"""``oms-webhooks endpoints export`` and ``import``: back up the endpoints, and restore them."""

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
from pipeline.core.counted import counted
from schemas.codec import InvalidRecordError, from_json
from schemas.endpoint_backup import BackupHeader

out = Output()
err = Console(stderr=True)

_AT_ONCE: Final = 20
_MAX_BYTES: Final = 500_000
"""Limit of one request. The API accepts 1 MiB."""
_SECONDS: Final = 300.0
_WORDS: Final = {
    "create": "created",
    "update": "restored",
    "keep": "different, left unchanged (--overwrite restores them)",
    "none": "already identical",
    "refuse": "refused",
}


class BackupError(ApiCallError):
    """A file is not a backup, is incomplete, or cannot be read or written. ``str(error)`` says why."""


def export_endpoints(
    file: Annotated[Path, typer.Argument(help="File to write the backup to. -: standard output.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Write a backup of all endpoints (needs an admin key). An existing file is replaced only with --overwrite.

    The backup contains secrets, encrypted with the encryption key. Keep that key somewhere else. Without it, the backup cannot be restored.
    """
    if str(file) != "-":
        _require_place(file, overwrite=overwrite)
    with client_for(url, api_key) as client:
        text = client.text("backups/endpoints", seconds=_SECONDS)
    _, lines = read_backup(text)
    if str(file) == "-":
        sys.stdout.write(text)
        return
    _write_whole(file, text)
    out.print(f"Wrote {counted(len(lines), 'endpoint')} to {file}.", markup=False, highlight=False, soft_wrap=True)


def import_endpoints(
    file: Annotated[Path, typer.Argument(help="Backup file. -: standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would change.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also restore existing endpoints that differ, including their secrets.")
    ] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Restore the endpoints of a backup (needs an admin key). The exit code is 1 if an endpoint was refused.

    Missing endpoints are created, with their old id if it is free. You can run this again: existing endpoints are left alone.
    """
    _, lines = read_backup(_read(file))
    done: list[Mapping[str, Any]] = []
    try:
        with client_for(url, api_key) as client:
            for batch in track(list(_batches(lines)), "endpoints", console=err, transient=True):
                wanted = {"restore": {"endpoints": batch, "overwrite": overwrite, "dry_run": dry_run}}
                done += client.call("POST", "backups/endpoints", json=wanted, seconds=_SECONDS)["restored"]
    finally:  # if the API ends halfway, too: no later import says again which ids are new
        steps = _tell(done)
        if dry_run:
            out.print("This was a dry run. Nothing was changed.")
    raise typer.Exit(1 if steps["refuse"] else 0)


def _tell(done: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Print what was done, and return how often each step was taken."""
    steps = Counter(one["step"] for one in done)
    if steps.keys() - {"none"}:
        out.print(_table(done))
    for step, words in _WORDS.items():
        if steps[step]:
            out.print(f"{steps[step]} {words}", highlight=False)
    return steps


def read_backup(text: str) -> tuple[BackupHeader, list[Any]]:
    """The header and the lines of a backup.

    Raises:
        BackupError: the text is not a backup, or it is incomplete.
    """
    # Not splitlines(): a description may hold a line separator (U+2028), and JSON leaves it as it is.
    first, *rest = text.removesuffix("\n").split("\n")
    try:
        header = from_json(first.encode(), BackupHeader)
        lines = [json.loads(line) for line in rest]
    except InvalidRecordError:
        raise BackupError(
            "This is not a backup of endpoints, or its version is not supported: the first line is not the expected header."
        ) from None
    except ValueError as error:
        raise BackupError(f"The backup is damaged: a line is not JSON ({error}).") from None
    if len(lines) != header.endpoints:
        raise BackupError(
            f"The backup is incomplete: it should contain {counted(header.endpoints, 'endpoint')} but contains {len(lines)}."
        )
    return header, lines


def _read(file: Path) -> str:
    try:
        return read_text() if str(file) == "-" else file.read_text("utf-8")
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise BackupError(f"{file} is not a backup of endpoints: it is not text.") from None


def _require_place(file: Path, *, overwrite: bool) -> None:
    """Raises BackupError if no backup may be written there."""
    try:
        if file.is_dir():
            raise BackupError(f"{file} is a directory. Specify a file in it.")
        is_there, is_file = file.exists() or file.is_symlink(), file.is_file()
    except OSError as error:
        raise _not_written(file, error) from error
    if is_there and not is_file:  # it would replace a device, such as /dev/null
        raise BackupError(f"{file} is not an ordinary file. Specify another one, or - for standard output.")
    if is_there and not overwrite:
        raise BackupError(f"{file} already exists. No backup was made. Use another file, or --overwrite to replace this one.")


def _not_written(file: Path, error: OSError) -> BackupError:
    return BackupError(f"{file} cannot be written: {error.strerror}. No backup was made.")


def _write_whole(file: Path, text: str) -> None:
    """Write the file atomically: an existing backup stays until the new one is complete. Only the owner may read it."""
    try:
        part = file.with_name(f"{file.name}.part")
        part.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            part.replace(file)
        finally:  # also after Ctrl-C, because it contains secrets
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _not_written(file, error) from error


def _batches(lines: Sequence[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    size = 0
    for line in lines:
        length = len(json.dumps(line))
        if batch and (len(batch) == _AT_ONCE or size + length > _MAX_BYTES):
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
