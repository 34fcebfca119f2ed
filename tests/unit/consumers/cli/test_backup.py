"""``oms-webhooks endpoints export`` and ``import`` against the real application."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumers.cli.api_client import ApiCallError, ApiClient
from consumers.cli.backup import BackupError, read_backup
from tests.unit.consumers.commands import Command
from tests.unit.web.endpoint_requests import PATH, request
from tests.unit.web.service import Service

HEADER = '{"format":"oms-webhooks endpoints","format_version":1,"exported_at":"2026-03-02T15:04:00Z","endpoints":1}'


async def test_export_and_import(service: Service, run: Command, tmp_path: Path) -> None:
    for number in range(25):
        await service.create(f"http://127.0.0.1/{number}")
    file = tmp_path / "endpoints.jsonl"
    made = await run("endpoints", "export", str(file))
    assert (made.exit_code, made.stdout) == (0, f"Wrote 25 endpoints to {file}.\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert not file.with_name("endpoints.jsonl.part").exists()
    await request(service, "DELETE", f"{PATH}/1")

    tried = await run("endpoints", "import", str(file), "--dry-run")
    assert (tried.exit_code, "Nothing was changed" in tried.stdout, "http://127.0.0.1/0" in tried.stdout) == (0, True, True)
    assert service.kafka.changes[-1].deleted
    restored = await run("endpoints", "import", str(file))
    assert restored.exit_code == 0
    assert "1 created\n24 already identical\n" in restored.stdout
    again = await run("endpoints", "import", "-", stdin=file.read_text())
    assert again.stdout.endswith("25 already identical\n")


async def test_endpoints_restored_before_an_error_are_reported(
    service: Service, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second import does not show again which endpoints got new ids."""
    for number in range(25):
        await service.create(f"http://127.0.0.1/{number}")
    file = tmp_path / "endpoints.jsonl"
    await run("endpoints", "export", str(file))
    await request(service, "DELETE", f"{PATH}/1")
    asked = iter([True])
    call = ApiClient.call

    def fail_later(self: ApiClient, *arguments: Any, **more: Any) -> Any:
        if not next(asked, False):
            raise ApiCallError("The API does not answer.")
        return call(self, *arguments, **more)

    monkeypatch.setattr(ApiClient, "call", fail_later)
    broken = await run("endpoints", "import", str(file))
    assert str(broken.exception) == "The API does not answer."
    assert broken.stdout.endswith("1 created\n19 already identical\n")


async def test_a_description_with_line_separators_is_restored(service: Service, run: Command, tmp_path: Path) -> None:
    file = tmp_path / "endpoints.jsonl"
    created = await service.create()
    description = "one\u2028two\u2029three\x85four"
    await request(service, "PATCH", f"{PATH}/{created}", json={"endpoint": {"description": description}})
    await run("endpoints", "export", str(file))
    await request(service, "DELETE", f"{PATH}/{created}")
    restored = await run("endpoints", "import", str(file))
    assert (restored.exit_code, restored.stdout.splitlines()[-1]) == (0, "1 created")
    again = await run("endpoints", "import", "-", stdin=file.read_text().replace("\n", "\r\n"))
    assert again.stdout.endswith("1 already identical\n")
    _, found = await request(service, "GET", f"{PATH}/{created}")
    assert found["description"] == description


async def test_export_to_standard_output(service: Service, run: Command) -> None:
    await service.create()
    header, line = (await run("endpoints", "export", "-")).stdout.splitlines()
    assert (json.loads(header)["endpoints"], json.loads(line)["id"]) == (1, 1)


async def test_a_refused_endpoint_sets_the_exit_code(service: Service, run: Command, tmp_path: Path) -> None:
    await service.create()
    file = tmp_path / "endpoints.jsonl"
    await run("endpoints", "export", str(file))
    file.write_text(file.read_text().replace("127.0.0.1", "10.0.0.1"))
    refused = await run("endpoints", "import", str(file), "--overwrite")
    assert (refused.exit_code, "1 refused" in refused.stdout) == (1, True)


async def test_an_unwritable_backup_is_reported_and_leaves_the_old_file(
    service: Service, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.create()
    missing = tmp_path / "none" / "x"
    refused = await run("endpoints", "export", str(missing))
    assert str(refused.exception) == f"{missing} cannot be written: No such file or directory. No backup was made."
    for directory in (tmp_path, Path("/")):
        refused = await run("endpoints", "export", str(directory))
        assert str(refused.exception) == f"{directory} is a directory. Specify a file in it."

    file = tmp_path / "endpoints.jsonl"
    file.write_text("the one before")
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        monkeypatch.setattr("os.fsync", _raising(error))
        await run("endpoints", "export", str(file), "--overwrite")
        assert (file.read_text(), file.with_name("endpoints.jsonl.part").exists()) == ("the one before", False), (
            "no secrets are left behind"
        )


async def test_an_existing_file_is_replaced_only_with_overwrite(service: Service, run: Command, tmp_path: Path) -> None:
    """Even if it is a backup: another pipeline may have answered."""
    await service.create()
    file = tmp_path / "endpoints.jsonl"
    file.write_text("yesterday's")
    refused = await run("endpoints", "export", str(file))
    message = f"{file} already exists. No backup was made. Use another file, or --overwrite to replace this one."
    assert (str(refused.exception), file.read_text(), service.kafka.audits) == (message, "yesterday's", [])

    made = await run("endpoints", "export", str(file), "--overwrite")
    assert (made.exit_code, made.stdout) == (0, f"Wrote 1 endpoint to {file}.\n")
    assert read_backup(file.read_text())[0].endpoints == 1


async def test_links_and_pipes_are_not_replaced(service: Service, run: Command, tmp_path: Path) -> None:
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "none")
    os.mkfifo(pipe)
    for place in (link, pipe):
        refused = await run("endpoints", "export", str(place), "--overwrite")
        assert str(refused.exception) == f"{place} is not an ordinary file. Specify another one, or - for standard output."
    assert (link.is_symlink(), pipe.is_fifo()) == (True, True)


def _raising(error: BaseException) -> Callable[[int], None]:
    def fail(_: int) -> None:
        raise error

    return fail


async def test_an_unreadable_backup_is_reported(service: Service, run: Command, tmp_path: Path) -> None:
    missing, binary = tmp_path / "none", tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for file, message in (
        (missing, f"{missing} cannot be read: No such file or directory."),
        (tmp_path, f"{tmp_path} cannot be read: Is a directory."),
        (binary, f"{binary} is not a backup of endpoints: it is not text."),
    ):
        assert str((await run("endpoints", "import", str(file))).exception) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a backup of endpoints"),
        ("[]", "not a backup of endpoints"),
        (HEADER.replace(":1,", ":2,"), "its version is not supported"),
        (HEADER, "should contain 1 endpoint but contains 0"),
        (f"{HEADER}\n{{}}\n{{}}", "should contain 1 endpoint but contains 2"),
        (f"{HEADER}\n{{", "a line is not JSON"),
    ],
)
def test_an_invalid_or_incomplete_backup_is_refused(text: str, message: str) -> None:
    with pytest.raises(BackupError, match=message):
        read_backup(text)
