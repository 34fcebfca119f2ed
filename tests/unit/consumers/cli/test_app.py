"""Errors are reported in a sentence: on the terminal by a command, in the log by a role."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import structlog
import typer
from rich.console import Console
from typer.testing import CliRunner

from consumers.cli import entry, role_process
from consumers.cli.app import _tell_of_stop, app, received_line
from consumers.cli.authentication_options import SECRET_VARIABLE
from consumers.cli.command_variables import NON_SETTING_VARIABLES
from consumers.cli.runtime_files import RunNote, leave_note
from pipeline.broker.errors import NoSessionError
from pipeline.devtools.receiver import Received
from pipeline.endpoints.vault import Vault
from pipeline.ops.logs import logger


@pytest.fixture(autouse=True)
def as_on_a_new_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variables, no .env, no note of a pipeline. Logging is restored afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("OMS_WEBHOOKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    configure = structlog.configure
    # A cached logger would keep this configuration, and later tests would not see its output.
    monkeypatch.setattr(structlog, "configure", lambda **chosen: configure(**(chosen | {"cache_logger_on_first_use": False})))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line as the shell does, and return the exit code."""
    monkeypatch.setattr(sys, "argv", ["oms-webhooks", *arguments])
    try:
        entry.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_missing_kafka_session_is_reported_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise NoSessionError("Could not open a session with Kafka at 127.0.0.1:1")

    monkeypatch.setattr("pipeline.broker.configured_broker.KafkaTopicAdmin", refuse)
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert run_main(monkeypatch, "topics") == 1
    using, error = capsys.readouterr().err.splitlines()
    assert using == "Using Kafka at 127.0.0.1:1 (OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS)."
    assert error == "Error: Could not open a session with Kafka at 127.0.0.1:1"


@pytest.mark.parametrize(
    ("error", "logged"),
    [(NoSessionError("There is no session"), ("problem", "There is no session")), (ZeroDivisionError(), ("exception", "Zero"))],
)
def test_a_role_that_cannot_start_says_so_in_its_log(
    error: Exception, logged: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(role_process, "serve", fail)
    monkeypatch.setenv("OMS_WEBHOOKS_ENCRYPTION_KY", Vault.new_key())
    assert run_main(monkeypatch, "fanout") == 1
    warning, end = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (warning["level"], warning["name"]) == ("warning", "OMS_WEBHOOKS_ENCRYPTION_KY")
    assert "did you mean OMS_WEBHOOKS_ENCRYPTION_KEY?" in warning["problem"]
    assert (end["level"], end["event"], end["role"]) == ("error", "the role ends", "fanout")
    assert logged[1] in end[logged[0]]


def test_all_roles_in_one_process_warn_of_unknown_names_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NoSessionError("There is no broker to start")

    monkeypatch.setattr("consumers.cli.app.embedded_services", refuse)
    monkeypatch.setenv("OMS_WEBHOOKS_API_PORT", "8090")
    assert run_main(monkeypatch, "all") == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert json.loads(warning)["name"] == "OMS_WEBHOOKS_API_PORT"
    assert error == "Error: There is no broker to start"


def test_a_configured_kafka_conflicts_with_the_request_for_a_broker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "kafka.example.com:9092")
    assert run_main(monkeypatch, "all", "--kafka", "apache") == 1
    assert "No broker is started, because the Kafka at kafka.example.com:9092 is configured." in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "demo --kafka embedded"])
@pytest.mark.parametrize("place", ["OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS in .env"])
def test_the_demo_refuses_to_use_a_configured_kafka(
    command: str, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a shell set up for production, it would publish invented orders there."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was started")

    monkeypatch.setattr("consumers.cli.demo.embedded_services", refuse)
    if place.endswith(".env"):
        Path(".env").write_text("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS=kafka.example.com:9092\n", encoding="utf-8")
    else:
        monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "kafka.example.com:9092")
    assert run_main(monkeypatch, *command.split()) == 1
    assert f"The demo starts its own broker, but {place} names the Kafka at kafka.example.com:9092." in capsys.readouterr().err


async def test_a_second_ctrl_c_ends_the_wait_for_deliveries_in_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """An endpoint that hangs used to block the prompt for 15 seconds without explanation."""

    async def drain() -> None:
        _tell_of_stop()
        await asyncio.sleep(30)

    draining = asyncio.create_task(drain())
    await asyncio.sleep(0)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(draining, 5)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    assert "Press Ctrl-C again to stop immediately" in " ".join(capsys.readouterr().err.split())


def test_logs_of_a_command_do_not_appear_in_its_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        logger("kafka").debug("a detail")
        logger("kafka").warning("a broker is away")
        raise NoSessionError("Could not open a session with Kafka")

    monkeypatch.setattr("pipeline.broker.configured_broker.KafkaTopicAdmin", refuse)
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert run_main(monkeypatch, "topics") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "a broker is away" in printed.err
    assert "a detail" not in printed.err


def test_a_worker_leaves_the_warning_about_names_to_its_supervisor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(*_: object, **__: object) -> None:
        return

    monkeypatch.setattr(role_process, "serve", serve)
    monkeypatch.setenv("OMS_WEBHOOKS_ENCRYPTION_KY", "x")
    assert run_main(monkeypatch, "fanout", "--worker", "fanout-0") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("variables", "toml", "line"),
    [
        ({"RETENTION_DAYS": "0"}, "", "OMS_WEBHOOKS_RETENTION_DAYS: It must be 1 or more."),
        ({}, "retention_days = 0", "retention_days in settings.toml: It must be 1 or more."),
        (
            {"EVENT_TYPES_FILE": "none.yaml"},
            "",
            "OMS_WEBHOOKS_EVENT_TYPES_FILE: none.yaml cannot be read: No such file or directory.",
        ),
        (
            {},
            'event_types_file = "none.yaml"',
            "event_types_file in settings.toml: none.yaml cannot be read: No such file or directory.",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
            "",
            "SASL needs kafka_sasl_mechanism, kafka_sasl_username and kafka_sasl_password",
        ),
        (
            {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092,foo:bar"},
            "",
            'OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS: "foo:bar" is not host:port; write, for example, kafka-1:9092,kafka-2:9092',
        ),
    ],
)
def test_a_refused_setting_is_named_as_it_was_set(
    variables: dict[str, str], toml: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("settings.toml").write_text(toml, encoding="utf-8")
    for name, value in ({"SETTINGS_FILE": "settings.toml"} | variables).items():
        monkeypatch.setenv(f"OMS_WEBHOOKS_{name}", value)
    assert run_main(monkeypatch, "settings") == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "Error: the settings are not valid:"
    assert others == [f"  {line}"]


@pytest.mark.parametrize(
    "command",
    [
        ["topics", "--create"],
        ["migrate"],
        ["retention"],
        ["grants", "--role", "api"],
        ["settings"],
        ["settings", "--toml"],
        ["schema", "--offline"],
        ["event-types", "list", "--offline"],
        ["event-types", "check"],
        ["publish", "event.json"],
        ["simulate", "--count", "1"],
    ],
    ids=" ".join,
)
def test_a_command_that_uses_the_settings_names_those_without_effect(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a misspelt prefix, topics of another pipeline were created and events published to them, without a warning."""
    Path("event.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_TOPIC_PREFX", "eu.")
    run_main(monkeypatch, *command)
    printed = capsys.readouterr()
    line = (
        "OMS_WEBHOOKS_KAFKA_TOPIC_PREFX: This is not a setting and has no effect; did you mean OMS_WEBHOOKS_KAFKA_TOPIC_PREFIX?"
    )
    assert printed.err.splitlines().count(line) == 1
    assert "PREFX" not in printed.out


def test_the_check_reports_names_that_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.cli.settings_check.kafka_findings", lambda _: [])
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    for name in NON_SETTING_VARIABLES:
        monkeypatch.setenv(name, "x")
    assert CliRunner().invoke(app, ["settings", "--check"]).exit_code == 0
    monkeypatch.setenv("OMS_WEBHOOKS_RETENTON_DAYS", "3")
    checked = CliRunner().invoke(app, ["settings", "--check"])
    assert checked.exit_code == 1
    assert "OMS_WEBHOOKS_RETENTON_DAYS" in checked.stdout


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RETENTION_DAYS": "x"}, "OMS_WEBHOOKS_RETENTION_DAYS"),
        ({"CLICKHOUSE_URL": "http://127.0.0.1:999999"}, "must look like https://host:8443 or http://host:8123"),
        ({"CLICKHOUSE_URL": "clickhouse:8123"}, "must look like https://host:8443 or http://host:8123"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "SASL needs kafka_sasl_mechanism"),
        ({"RETENTON_DAYS": "7", "CLICKHOUSE_URL": "nowhere"}, "OMS_WEBHOOKS_RETENTON_DAYS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "Connection refused"),
        ({"CLICKHOUSE_URL": "http://127.0.0.1:1"}, "ClickHouse: 127.0.0.1:1"),
        ({}, "No Kafka is configured"),
    ],
)
def test_the_check_reports_any_problem_and_exits_with_1(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for name, value in variables.items():
        monkeypatch.setenv(f"OMS_WEBHOOKS_{name}", value)
    checked = CliRunner().invoke(app, ["settings", "--check"])
    assert checked.exit_code == 1, checked.output
    assert message in checked.stdout


def test_settings_as_json_contain_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMS_WEBHOOKS_CLICKHOUSE_PASSWORD", "hunter2")
    monkeypatch.setenv("OMS_WEBHOOKS_RETENTION_DAYS", "7")
    result = CliRunner().invoke(app, ["settings", "--json"])
    values = {one["variable"]: one["value"] for one in json.loads(result.stdout)["settings"]}
    assert (values["OMS_WEBHOOKS_RETENTION_DAYS"], "hunter2" in result.output) == ("7", False)
    assert {name for name, value in values.items() if "*" in value} == {"OMS_WEBHOOKS_CLICKHOUSE_PASSWORD"}

    checked = CliRunner().invoke(app, ["settings", "--check", "--json"])
    assert checked.exit_code == 1
    assert {"what": "Kafka", "problem": "No Kafka is configured"} in [
        one | {"problem": str(one["problem"])[:22]} for one in json.loads(checked.stdout)["findings"]
    ]
    assert CliRunner().invoke(app, ["settings", "--toml", "--json"]).exit_code == 2


def test_every_variable_of_an_option_is_known_not_to_be_a_setting() -> None:
    def variables(command: Any) -> set[str]:
        own = {parameter.envvar for parameter in command.params if parameter.envvar}
        return own.union(*map(variables, getattr(command, "commands", {}).values()))

    named = {*variables(typer.main.get_command(app)), SECRET_VARIABLE}
    assert "OMS_WEBHOOKS_API_KEY" in named
    assert named <= set(NON_SETTING_VARIABLES)


def test_a_pipeline_whose_kafka_is_gone_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with leave_note(RunNote("http://127.0.0.1:1", "a-key", address, 3)):
        assert run_main(monkeypatch, "topics") == 1
    message = capsys.readouterr().err
    assert f"Using Kafka at {address}, of the local pipeline at http://127.0.0.1:1 (started " in message
    assert f"No Kafka broker can be used. {address}: Could not connect (Connection refused)." in message


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--port", "99999", "It must be 65535 or less."),
        ("--status", "99", "It must be 300 or more."),
        (
            "--secret",
            "bad",
            "must start with whsec_, followed by 24 to 64 bytes in base64; make one: echo whsec_$(openssl rand -base64 32)",
        ),
        ("--basic", "oms", "user:password"),
        ("--header-key", "X-Key", "X-Api-Key: key"),
        ("--public-key", "whpk_AAAA", "32 bytes in base64"),
    ],
)
def test_invalid_options_of_the_receiver_are_refused(option: str, value: str, message: str) -> None:
    refused = CliRunner().invoke(app, ["receiver", option, value])
    assert refused.exit_code == 2
    assert message in " ".join(click.unstyle(refused.output).replace("│", "").split())


@pytest.mark.parametrize("name", ["[bold]7", "[/order]", "e" * 128])
def test_a_request_to_the_receiver_is_one_unaltered_line(name: str) -> None:
    """An id in brackets was treated as markup: it was not printed, or the receiver answered 500. Long lines were wrapped, even
    in a pipe.
    """
    written = io.StringIO()
    received = Received("/", name, 1, "refused", 500, "fails as asked: 500", 0.0, {}, b"{}")
    Console(file=written, width=80).print(received_line(received), soft_wrap=True)
    assert written.getvalue() == f"{name}  attempt 1  refused  fails as asked: 500\n"


@pytest.mark.parametrize(
    ("variables", "command"),
    [
        ({}, "attempts --q endpoint_id_eq"),
        ({}, "attempts resend-failed --q endpoint_id_eq="),
        ({}, "attempts --order R1 resend 7"),
        ({}, "erase"),
        ({"API_URL": "127.0.0.1:8080"}, "attempts"),
        ({"API_URL": "http://127.0.0.1:1", "API_KEY": "a…"}, "attempts"),
        ({"API_URL": "http://127.0.0.1:1", "API_KEY": "k"}, "replay"),
        ({"API_URL": "http://127.0.0.1:1", "API_KEY": "k"}, "replay --resume none.json"),
        ({"SETTINGS_FILE": "none.toml"}, "settings"),
        ({"SECRETS_DIR": "none"}, "topics"),
    ],
)
def test_invalid_arguments_and_settings_exit_with_2_as_documented(
    variables: dict[str, str], command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts could not distinguish them from an API that is away, which can be tried again."""
    for name, value in variables.items():
        monkeypatch.setenv(f"OMS_WEBHOOKS_{name}", value)
    assert run_main(monkeypatch, *command.split()) == 2
    assert "Error: " in capsys.readouterr().err
