"""The help of every command uses TEXT, NUMBER and PATH, and flags have no type. Errors are in plain words, too."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from consumers.cli.app import app
from consumers.cli.plain_help import with_plain_types


def shown(command: Any) -> Iterator[tuple[str, str, str]]:
    """Commands, their parameters, and the types shown in the help."""
    context = command.context_class(command, info_name=command.name)
    for parameter in command.get_params(context):
        describe = getattr(parameter, "display_type_rich", None)
        if describe is not None:
            yield str(command.name), str(parameter.name), describe(context) or ""
    for below in getattr(command, "commands", {}).values():
        yield from shown(below)


def test_no_command_shows_python_types() -> None:
    types = {(command, name): text for command, name, text in shown(with_plain_types(get_command(app)))}
    assert len(types) > 50
    assert {place: text for place, text in types.items() if "<" in text or "[" in text} == {}
    assert types["replay", "yes"] == ""
    assert types["replay", "rate"] == "NUMBER"
    assert types["add", "target_url"] == "", "its name says what it is"
    assert types["demo", "kafka"] == "embedded|apache"


def test_help_fits_80_columns_and_has_no_colour_in_a_pipe() -> None:
    text = CliRunner().invoke(app, ["endpoints", "add", "--help"], env={"COLUMNS": "80"}).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["grants", "--role", "wrong"], "'--role': 'wrong' is not one of 'fanout', 'retry',"),
        (["receiver", "--failure", "wrong"], "'--failure': 'wrong' is not one of 'status', 'hang', 'reset'."),
        (["endpoints", "verification", "1", "wrong"], "'verification': 'wrong' is not one of 'none',"),
        (["endpoints", "show", "wrong"], "'endpoint_id': It must be a whole number."),
        (["receiver", "--fail-rate", "7"], "'--fail-rate': It must be 1 or less."),
        (["simulate", "--rate", "much"], "'--rate': It must be a number."),
        (["grants", "--role", "\x1b[31m"], "'\\x1b[31m' is not one of"),
    ],
)
def test_a_refused_option_is_explained_without_library_jargon(command: list[str], message: str) -> None:
    refused = CliRunner().invoke(app, command, env={"COLUMNS": "300"})
    assert refused.exit_code == 2
    assert message in refused.output
    for word in ("Value error", "Input should", "unable to parse", "\x1b"):
        assert word not in refused.output


def commands_below(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands_below(below, (*path, name))


def test_no_word_of_the_help_is_cut_off_at_80_columns() -> None:
    """A variable's name and a filter's form used to be: attribute_predicate=va…"""
    command = with_plain_types(get_command(app))
    cut: list[str] = []
    for words in commands_below(command):
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
            patch.setenv("COLUMNS", "80")
            command.main([*words, "--help"], standalone_mode=False)
        cut += [f"{words}: {line}" for line in printed.getvalue().splitlines() if re.search(r"[a-zA-Z_=]…\s*│$", line)]
    assert cut == []


def test_the_range_of_a_number_is_described_in_words() -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        with_plain_types(get_command(app)).main(["receiver", "--help"], standalone_mode=False)
    assert "0: any free port. From 0 to 65535. [default: 9000]" in printed.getvalue()
    assert "Seconds to wait before each response. 0 or more. [default: 0]" in printed.getvalue()
    assert "<=" not in printed.getvalue()
