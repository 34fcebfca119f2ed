from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from pipeline.ops.logs import configure_logs, logger


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Logging is global: what a test configures must not affect the next one."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {
        name: logging.getLogger(name).level
        for name in (
            "kafka",
            "kafka.net.selector",
            "kafka.net.transport",
            "aiohttp.access",
            "clickhouse_connect",
            "asyncio",
            "httpx",
        )
    }
    filters = logging.getLogger("cel")
    was_disabled = filters.disabled
    yield
    filters.disabled = was_disabled
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")

    logger("tests.one").info("an event\nof two lines", attempt=3, sku="größe", body=b"\xff")

    [line] = lines(capsys)
    assert line["event"] == "an event\nof two lines"
    assert (line["level"], line["logger"], line["attempt"], line["sku"]) == ("info", "tests.one", 3, "größe")
    assert line["timestamp"].endswith("Z")


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")

    try:
        int("went wrong")
    except ValueError:
        logger("tests.two").exception("a record could not be processed", offset=41)

    [line] = lines(capsys)
    assert (line["level"], line["offset"]) == ("error", 41)
    assert "ValueError: " in line["exception"]


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")

    logging.getLogger("some.library").warning("lost %s", "a connection")
    try:
        int("went wrong")
    except ValueError:
        logging.getLogger("some.client").exception("failed")

    first, second = lines(capsys)
    assert (first["event"], first["level"], first["logger"]) == ("lost a connection", "warning", "some.library")
    assert "went wrong" in second["exception"]


def test_libraries_log_nothing_below_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("debug", "json")

    for name in ("kafka.coordinator", "aiohttp.access", "httpx", "asyncio"):
        logging.getLogger(name).info("noise")
    logging.getLogger("kafka.net.selector").warning("Task <...> ran for 0.127s ... blocking the event loop")
    logging.getLogger("some.library").warning("a warning")

    assert [line["event"] for line in lines(capsys)] == ["a warning"]


LEVELS: list[Literal["debug", "info", "warning", "error"]] = ["debug", "info", "warning", "error"]


def test_the_library_of_filters_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It would write the arguments of functions, which may be customers' data."""
    configure_logs("debug", "json")

    logging.getLogger("cel").warning("Python function 'decimal' failed: %s", "a card number")

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("level", LEVELS)
def test_messages_below_the_level_are_not_written(
    level: Literal["debug", "info", "warning", "error"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(level, "json")
    log = logger(f"tests.{level}")

    log.debug("x")
    log.info("x")
    log.warning("x")
    log.error("x")

    assert [line["level"] for line in lines(capsys)] == LEVELS[LEVELS.index(level) :]


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "console")

    logger("tests.people").info("started", url="http://127.0.0.1:8080")

    written = capsys.readouterr().err
    assert "started" in written
    assert "url=http://127.0.0.1:8080" in written
    assert "\x1b" not in written, "no colours where nobody sees them"


def test_configuring_again_writes_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    configure_logs("info", "json")

    logger("tests.again").info("once")

    assert len(lines(capsys)) == 1
