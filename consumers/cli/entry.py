"""Where ``oms-webhooks`` begins.

A role loads what it needs to run, and not the rest of the command line: it starts sooner. Nothing is loaded before :func:`main` is called,
so that Ctrl-C ends a command without a traceback from its first moment on.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sys

TYPE_CHECKING = False  # typing has it too, and takes ten milliseconds, in which Ctrl-C would end with a traceback
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

    import typer

_HELP: Final = "--help"
_ROLES: Final = frozenset({"fanout", "retry", "recorder", "api"})
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
_INTERRUPTED = 130
"""The exit code of what Ctrl-C ended, as shells have it."""


def main() -> None:
    """Run the command line; expected errors are one sentence, not a traceback."""
    # Where the shell has closed one of them (>&-), Python has None in its place, and whoever writes there fails.
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        _main()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _main() -> None:
    role = role_wanted(sys.argv[1:])
    if role is not None:
        _run_role(*role)
        return
    from consumers.cli.role_process import EXPECTED
    from consumers.cli.roles import ROLES
    from pipeline.ops.file_descriptors import raise_descriptor_limit
    from pipeline.ops.logs import configure_logs

    configure_logs("warning", "console")  # to stderr: commands print results; what runs for long then sets its own level and form
    raise_descriptor_limit()
    if sys.argv[1:2] and sys.argv[1] in _ROLES:
        import typer

        from consumers.cli.plain_errors import PlainErrorsGroup

        app = typer.Typer(cls=PlainErrorsGroup, pretty_exceptions_enable=False, rich_markup_mode="rich")
        for command in ROLES:
            app.command()(command)
        _run(_command_line(app), EXPECTED)
    else:
        from consumers.cli.app import ALL_EXPECTED, app

        _run(_command_line(app), ALL_EXPECTED)


def _command_line(app: typer.Typer) -> Callable[[], object]:
    """The commands; with help in plain words, where help is asked for."""
    if _HELP not in sys.argv and len(sys.argv) > 1:
        return app
    from typer.main import get_command

    from consumers.cli.plain_help import with_plain_types

    command: Callable[[], object] = with_plain_types(get_command(app))
    return command


def role_wanted(arguments: Sequence[str]) -> tuple[str, str] | None:
    """The role, and the name of the worker, of a command line that says no more than that. All else is for the command line's parser."""
    match arguments:
        case [role] if role in _ROLES:
            return role, ""
        case [role, "--worker", name] if role in _ROLES and not name.startswith("-"):
            return role, name
    return None


def _run_role(role: str, worker: str) -> None:
    load_role()
    from consumers.cli.role_process import EXPECTED, run_role
    from consumers.run import Role
    from pipeline.ops.file_descriptors import raise_descriptor_limit

    raise_descriptor_limit()
    _run(lambda: run_role(Role(role), worker=worker), EXPECTED)


def load_role() -> None:
    """Load what every role needs, and no more: it is most of the time until the first delivery."""
    # Nothing of what is loaded goes away again: the garbage collector need not look at it, neither now nor later.
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for some means reading the metadata of all packages
    with _absent("rich"):  # structlog would load it, for tracebacks in colour
        import consumers.cli.role_process  # noqa: F401 - loaded, and used later
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def _absent(package: str) -> Iterator[None]:
    """As if a package were not installed, unless it is loaded already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # as Python has it: the import of it fails
    try:
        yield
    finally:
        del sys.modules[package]


def _run(command: Callable[[], object], expected: tuple[type[Exception], ...]) -> None:
    """Run commands, and say what went wrong."""
    from pydantic import ValidationError

    from pipeline.ops.settings_sources import refused_values

    try:
        command()
    except OSError as error:
        if error.filename is not None or error.errno not in _NO_ROOM or isinstance(error, expected):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left of it would fail again when Python ends
        sys.stderr.write(
            f"Error: the output cannot be written ({error.strerror}). What was asked may have been done all the same.\n"
        )
        sys.exit(1)
    except expected as error:
        from consumers.cli.console import plain
        from consumers.cli.role_process import sentence
        from consumers.cli.roles import err

        err.print(f"[bold red]Error:[/bold red] {plain(sentence(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except ValidationError as error:
        from consumers.cli.console import plain
        from consumers.cli.roles import err

        err.print("[bold red]Error:[/bold red] the settings are not valid (see `oms-webhooks settings`):")
        for finding in refused_values(error):
            place = f"{finding.what}: " if finding.what else ""
            err.print(f"  {plain(f'{place}{finding.problem}')}", highlight=False, soft_wrap=True)
        sys.exit(2)
