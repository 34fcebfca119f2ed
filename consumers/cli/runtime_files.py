"""Notes of the pipelines on this machine, with their URL and key, so that other commands of the same user find them.

Each process that runs a pipeline has a note, in a directory that only its user can read. A command that finds the note of a process that
has exited removes it, even if another process has the same pid now.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from schemas.topics import delay_label, parse_delay

log = logger(__name__)

_SUFFIX: Final = ".json"
_MAX_BYTES: Final = 64 * 1024
_DELAYS: Final = ("retry_delays", "patient_retry_delays", "impatient_retry_delays", "further_retry_delays")
"""The settings that name topics."""


@dataclass(frozen=True, slots=True)
class RunNote:
    """Where a running pipeline is."""

    url: str
    api_key: str = field(repr=False)
    bootstrap_servers: str
    partitions: int
    topic_prefix: str = ""
    delays: Mapping[str, str] = field(default_factory=dict)
    """The settings of its delay topics, as text, such as ``5s,1m``."""
    directory: str = field(default_factory=os.getcwd)
    """The directory in which it was started."""
    started_at: str = field(default_factory=lambda: datetime.now().astimezone().isoformat())
    pid: int = field(default_factory=os.getpid)
    process: str = field(default_factory=lambda: _begin_of(os.getpid()))
    """When the process started, in the system's unit. It distinguishes the process from a later one with the same pid."""

    def __str__(self) -> str:
        """For people: ``the local pipeline at http://127.0.0.1:8080 (started 14:02 in ~/shop, pid 4711)``."""
        return f"the local pipeline at {self.url} (started {self._started()} in {_short(self.directory)}, pid {self.pid})"

    def delays_read(self) -> dict[str, tuple[timedelta, ...]]:
        """The settings of its delay topics, as values.

        Raises:
            ValueError: one is malformed.
        """
        return {
            name: tuple(map(parse_delay, filter(None, self.delays[name].split(",")))) for name in _DELAYS if name in self.delays
        }

    def _started(self) -> str:
        at = datetime.fromisoformat(self.started_at).astimezone()
        return f"{at:%H:%M}" if at.date() == datetime.now().astimezone().date() else f"{at:%Y-%m-%d %H:%M}"


def note_of(settings: Settings, url: str) -> RunNote:
    """The note of the pipeline that this process runs."""
    key = settings.api_keys[0].get_secret_value()
    delays = {name: ",".join(map(delay_label, getattr(settings, name))) for name in _DELAYS}
    return RunNote(url, key, settings.kafka_bootstrap_servers, settings.kafka_partitions, settings.kafka_topic_prefix, delays)


@contextmanager
def leave_note(note: RunNote) -> Iterator[None]:
    """Let other commands of this user find the running pipeline. If there is no safe directory, no note is written."""
    name = f"{note.pid}{_SUFFIX}"
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(_directory(create=True))
            _write(directory, name, note)
        except OSError as error:
            log.warning("other commands will not find this pipeline automatically", problem=str(error))
            yield
            return
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)


def find_notes() -> list[RunNote]:
    """The notes of this user's running pipelines, oldest first. Notes of processes that have exited are removed."""
    found = []
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(_directory(create=False))
        except OSError:
            return []
        for name in sorted(os.listdir(directory)):  # noqa: PTH208 - of an open directory
            note = _read(directory, name) if name.endswith(_SUFFIX) else None
            if note is None:
                continue
            if _begin_of(note.pid) == note.process:
                found.append(note)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=directory)
    return sorted(found, key=lambda note: note.started_at)


@contextmanager
def _directory(*, create: bool) -> Iterator[int]:
    """The open directory of the notes, so that a symbolic link cannot redirect later operations.

    Raises:
        OSError: there is no directory, or other users may write to it, as to a temporary directory.
    """
    path = Path(tempfile.gettempdir()) / f"oms-webhooks-{os.getuid()}"
    if create:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(directory)
        if found.st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to another user")
        if create and stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(directory, 0o700)
        elif stat.S_IMODE(found.st_mode) & 0o022:
            raise PermissionError(f"others may write to {path}")
        yield directory
    finally:
        os.close(directory)


def _write(directory: int, name: str, note: RunNote) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)  # of an earlier process with our pid
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=directory), "w", encoding="utf-8") as file:
        json.dump(asdict(note), file)


def _read(directory: int, name: str) -> RunNote | None:
    """A note. None if it is not ours, or was written by another release."""
    try:
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory), encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                return None
            note = RunNote(**json.loads(file.read(_MAX_BYTES)))
            datetime.fromisoformat(note.started_at)
            note.delays_read()
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return note if name == f"{note.pid}{_SUFFIX}" else None


def _begin_of(pid: int) -> str:
    """When a process started, as text to compare. Empty if there is no such process."""
    try:
        # The program's name is in parentheses and may contain anything. The time is the 20th field after it.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return ""
    asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return asked.stdout.strip()


def _short(directory: str) -> str:
    home = str(Path.home())
    return "~" + directory[len(home) :] if directory == home or directory.startswith(home + os.sep) else directory
