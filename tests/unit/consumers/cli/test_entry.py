"""What is loaded before a role works. Loading alone takes more than a second, so one process loads all roles."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from consumers.cli.entry import _run, role_wanted
from pipeline.core.listen_errors import ListenError

ROOT = Path(__file__).parents[4]
LOADED = "from consumers.cli.entry import load_role; load_role(); import sys; print(*sys.modules)"
NOT_LOADED = {
    # The command line, and text layout.
    "click",
    "consumers.cli.app",
    "consumers.cli.roles",
    "consumers.cli.supervisor",
    "pygments",
    "rich",
    "typer",
    # Needed by some settings, or by some roles.
    "clickhouse_connect",
    "confluent_kafka",
    "consumers.held_deliveries",
    "consumers.recorder",
    "consumers.retry",
    "consumers.store_start",
    "consumers.store_wiring",
    "cryptography.x509",
    "httpx",
    "jsonschema",
    "opentelemetry",
    "pipeline.store.connection",
    "pipeline.store.rows",
    # The API, its pages, and its schemas.
    "jinja2",
    "pipeline.core.search",
    "pipeline.web.api",
    "pipeline.web.dashboard",
    "schemas.http.endpoints",
    "schemas.objects",
}


def test_a_role_loads_what_every_role_needs_and_no_more() -> None:
    result = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert {"consumers.run", "aiohttp", "kafka"} <= loaded
    assert not loaded & NOT_LOADED, "load it where it is used: see docs/code.md, Startup time"


def test_little_is_loaded_before_ctrl_c_is_handled() -> None:
    """An interrupt while Python loads modules ends with a traceback."""
    code = "import consumers.cli.entry, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(result.stdout.split()) & {"typing", "re", "enum", "typer"}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["fanout"], ("fanout", "")),
        (["recorder", "--worker", "recorder-1"], ("recorder", "recorder-1")),
        (["api", "--workers", "2"], None),
        (["retry", "--help"], None),
        (["retry", "--worker", "--help"], None),
        (["fanout", "--worker"], None),
        (["fanout", "retry"], None),
        (["topics"], None),
        ([], None),
    ],
)
def test_everything_but_a_plain_role_goes_to_the_parser_of_the_command_line(
    arguments: Sequence[str], wanted: tuple[str, str] | None
) -> None:
    assert role_wanted(arguments) == wanted


def test_an_expected_error_is_reported_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use is an OSError, too."""

    def command() -> None:
        raise ListenError(errno.EADDRINUSE, "Port 8080 is in use; set OMS_WEBHOOKS_HTTP_PORT.")

    with pytest.raises(SystemExit) as left:
        _run(command, (ListenError,))
    assert (left.value.code, "Traceback" in capsys.readouterr().err) == (1, False)


def test_ctrl_c_while_code_is_loaded_ends_without_a_traceback() -> None:
    """Some libraries turn an interrupted import into an error of their own."""
    code = (
        "import os, signal, sys, consumers.cli.entry as entry; sys.argv = ['oms-webhooks', '--help'];\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored by tests that run in the background
        "def interrupted():\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt: raise ImportError('a module was interrupted') from None\n"
        "entry._main = interrupted; entry.main()"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (130, "")


@pytest.mark.parametrize(("command", "code"), [("fanout", 0), ("publish", -signal.SIGTERM)])
def test_sigterm_while_a_role_is_loaded_exits_with_0(command: str, code: int) -> None:
    """Without a handler, process 1 of a container does not get the signal at all. Other commands have not done their work then."""
    script = (
        f"import os, signal, sys, consumers.cli.entry as entry; sys.argv = ['oms-webhooks', {command!r}];\n"
        "entry._main = lambda: os.kill(os.getpid(), signal.SIGTERM); entry.main()"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (code, "")


def test_a_locale_without_utf_8_shows_escapes() -> None:
    """For example LANG=en_US, which is ISO-8859-1. Even the help contains other characters, and the demo prints arrows."""
    command = [sys.executable, "-m", "consumers", "--help"]
    env = os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, encoding="latin-1", check=False)
    assert (result.returncode, result.stderr, "OMS_WEBHOOKS_\\u2026" in result.stdout) == (0, "", True)
