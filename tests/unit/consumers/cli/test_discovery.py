"""Which local pipeline commands use: they name it, and never guess among several."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from consumers.cli.api_client import client_for
from consumers.cli.discovery import NoPipelineError, local_pipeline, reachable
from consumers.cli.runtime_files import RunNote, find_notes, leave_note, note_of
from pipeline.ops.settings import Settings

SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg,unused-ignore]


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The directory of the notes; there are none yet."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("OMS_WEBHOOKS_API_URL", "OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / f"oms-webhooks-{os.getuid()}"


@pytest.fixture
def other() -> Iterator[int]:
    """The id of another running process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def note(port: int, kafka: str = "127.0.0.1:29092") -> RunNote:
    return RunNote(f"http://127.0.0.1:{port}", f"key-{port}", kafka, 3, directory="/srv/shop")


def leave_foreign_note(directory: Path, pid: int, process: str, port: int) -> None:
    """A note as the process ``pid`` would have written it."""
    content = dataclasses.asdict(note(port)) | {"pid": pid, "process": process}
    with os.fdopen(os.open(directory / f"{pid}.json", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump(content, file)


def begin(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_a_note_is_private_and_removed_with_its_pipeline(notes: Path) -> None:
    with leave_note(note(8080)):
        assert stat.S_IMODE(notes.stat().st_mode) == 0o700
        [file] = notes.iterdir()
        assert (file.name, stat.S_IMODE(file.stat().st_mode)) == (f"{os.getpid()}.json", 0o600)
        [found] = find_notes()
        assert found == dataclasses.replace(note(8080), started_at=found.started_at)
    assert find_notes() == []


def test_a_pipeline_is_described_by_where_and_when_it_started() -> None:
    at = datetime.now().astimezone().replace(hour=14, minute=2)
    one = dataclasses.replace(note(8080), directory=str(Path.home() / "shop"), started_at=at.isoformat(), pid=4711)
    assert str(one) == "the local pipeline at http://127.0.0.1:8080 (started 14:02 in ~/shop, pid 4711)"
    assert "key-8080" not in repr(one)


def test_notes_of_dead_processes_are_removed(notes: Path, other: int) -> None:
    notes.mkdir(mode=0o700)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    leave_foreign_note(notes, gone.pid, "1", 8081)
    leave_foreign_note(notes, other, "1", 8082)  # another process has this id by now
    assert find_notes() == []
    assert list(notes.iterdir()) == []


def test_a_note_that_others_could_have_written_is_ignored(notes: Path, other: int, tmp_path: Path) -> None:
    notes.mkdir(mode=0o700)
    leave_foreign_note(notes, other, begin(other), 8081)
    file = notes / f"{other}.json"
    file.chmod(0o644)
    assert find_notes() == []
    file.chmod(0o600)
    assert len(find_notes()) == 1
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")
    assert find_notes() == []
    file.unlink()
    (tmp_path / "elsewhere.json").rename(notes / "running.json")  # the name that a former release used
    assert find_notes() == []
    notes.chmod(0o770)
    assert find_notes() == []


def test_no_key_is_written_through_a_symlink(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir()
    notes.symlink_to(tmp_path / "trap")
    with leave_note(note(8080)):
        assert list((tmp_path / "trap").iterdir()) == []
        assert find_notes() == []


def test_the_only_pipeline_is_used_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    with leave_note(note(8080)):
        assert reachable(SETTINGS, "Publishing to").kafka_bootstrap_servers == "127.0.0.1:29092"
        client_for(None, None)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("Publishing to Kafka at 127.0.0.1:29092, of the local pipeline at http://127.0.0.1:8080 (started ")
    assert second.startswith("Using the local pipeline at http://127.0.0.1:8080 (started ")
    assert second.endswith(f"in /srv/shop, pid {os.getpid()}).")


def test_its_topics_have_its_own_delays() -> None:
    """The demo has short delays. Commands that use its Kafka must not report missing topics of other delays."""
    of_demo = Settings(
        api_keys=["secret-of-the-demo"],
        kafka_bootstrap_servers="127.0.0.1:29092",
        retry_delays="250ms,1s,3s",
        patient_retry_delays="1s",
        impatient_retry_delays="1s",
    )
    with leave_note(note_of(of_demo, "http://127.0.0.1:8080")):
        assert [spec.name for spec in reachable(SETTINGS).topics.specs()] == [spec.name for spec in of_demo.topics.specs()]
    with leave_note(note(8080)):
        assert reachable(SETTINGS).topics.specs() == SETTINGS.topics.specs(), "the note of a release that stored no delays"


@pytest.mark.parametrize("delays", [{"retry_delays": "soon"}, {"retry_delays": 5}, ["retry_delays"], 5, None])
def test_an_unreadable_note_is_ignored(notes: Path, delays: Any) -> None:
    with leave_note(dataclasses.replace(note(8080), delays=delays)):
        assert find_notes() == []


def test_no_guess_is_made_among_several_pipelines(
    notes: Path, other: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with leave_note(note(8080)):
        leave_foreign_note(notes, other, begin(other), 8081)
        for ask in (lambda: reachable(SETTINGS), lambda: client_for(None, None)):
            with pytest.raises(NoPipelineError, match=r"(?s)Several pipelines.*with OMS_WEBHOOKS_API_URL=http.*8080 .*8081 "):
                ask()
        assert capsys.readouterr().err == ""

        monkeypatch.setenv("OMS_WEBHOOKS_API_URL", "http://127.0.0.1:8081")
        client = client_for("http://127.0.0.1:8081", None)
        assert client._client.headers["Authorization"] == "Bearer key-8081"
        assert "8081" in capsys.readouterr().err
        reachable(SETTINGS)
        assert "of the local pipeline at http://127.0.0.1:8081" in capsys.readouterr().err
        monkeypatch.setenv("OMS_WEBHOOKS_API_URL", "https://webhooks.example.com")
        with pytest.raises(NoPipelineError, match=r"no pipeline on this machine is at https://webhooks\.example\.com"):
            reachable(SETTINGS)


def test_a_person_is_asked_to_choose(
    notes: Path, other: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: 2)
    with leave_note(note(8080)):
        leave_foreign_note(notes, other, begin(other), 8081)
        numbers = [one.url for one in find_notes()]
        client_for(None, None)
    message = capsys.readouterr().err
    assert f"  1. the local pipeline at {numbers[0]}" in message
    assert f"Using the local pipeline at {numbers[1]}" in message


def test_a_command_that_needs_the_pipeline_twice_asks_once(notes: Path, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    answers = [9, 2]  # the first is not one of them
    monkeypatch.setattr("typer.prompt", lambda *_, **__: answers.pop(0))
    with leave_note(note(8080)):
        leave_foreign_note(notes, other, begin(other), 8081)
        chosen = find_notes()[1]
        assert reachable(SETTINGS).kafka_bootstrap_servers == chosen.bootstrap_servers
        assert local_pipeline() == chosen
    assert answers == []


def test_configured_addresses_take_precedence_and_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.setenv("OMS_WEBHOOKS_API_URL", "https://webhooks.example.com")
    with leave_note(note(8080)):
        assert reachable(Settings(_env_file=None)).kafka_bootstrap_servers == "kafka:9092"  # type: ignore[call-arg,unused-ignore]
        client_for("https://webhooks.example.com", "a-key")
    assert capsys.readouterr().err.splitlines() == [
        "Using Kafka at kafka:9092 (OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS).",
        "Using the API at https://webhooks.example.com (OMS_WEBHOOKS_API_URL).",
    ]
