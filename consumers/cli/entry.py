"""The entry point of ``oms-webhooks``.

A role loads only what it needs to run, not the rest of the command line, so that it starts sooner. Nothing is loaded before :func:`main`
is called, so that Ctrl-C never shows a traceback.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import sys

TYPE_CHECKING = False  # importing it from typing takes ten milliseconds, in which Ctrl-C would end with a traceback
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

    import typer

_HELP: Final = "--help"
_ROLES: Final = frozenset({"fanout", "retry", "recorder", "api"})
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
_INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells define it."""


def main() -> None:
    """Run the command line. Print expected errors as one sentence, not as a traceback."""
    # If the shell closed one of them (>&-), Python has None in its place, and writing to it fails.
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without UTF-8 shows escapes; it was a traceback
    try:
        import signal

        # Interrupting an import can end in another error, with a traceback: until a command runs, there is nothing to clean up.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell ignores it, as for background jobs
            signal.signal(signal.SIGINT, _leave)
        # As process 1 of a container, a role that is still loading would otherwise never get the signal.
        if sys.argv[1:2] and sys.argv[1] in _ROLES and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _stop)
        _main()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _leave(_: int, __: object) -> None:
    os._exit(_INTERRUPTED)


def _stop(_: int, __: object) -> None:
    """A role that has not started yet has nothing to drain."""
    os._exit(0)


def _main() -> None:
    role = role_wanted(sys.argv[1:])
    if role is not None:
        _run_role(*role)
        return
    from consumers.cli.role_process import EXPECTED
    from consumers.cli.roles import ROLES
    from pipeline.ops.file_descriptors import raise_descriptor_limit
    from pipeline.ops.logs import configure_logs

    # To stderr, because commands print results. Long-running commands then set their own level and format.
    configure_logs("warning", "console")
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
    """The commands. If help is requested, with plain words for types."""
    if _HELP not in sys.argv and len(sys.argv) > 1:
        return app
    from typer.main import get_command

    from consumers.cli.plain_help import with_plain_types

    command: Callable[[], object] = with_plain_types(get_command(app))
    return command


def role_wanted(arguments: Sequence[str]) -> tuple[str, str] | None:
    """The role and the worker's name, if the command line contains nothing else. Anything else goes to the parser."""
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
    """Load what every role needs, and nothing else. Loading is most of the time until the first delivery."""
    # Loaded code stays in memory, so the garbage collector does not need to scan it.
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would read the metadata of all packages to find plugins
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
    sys.modules[package] = None  # type: ignore[assignment]  # then importing it fails
    try:
        yield
    finally:
        del sys.modules[package]


def _run(command: Callable[[], object], expected: tuple[type[Exception], ...]) -> None:
    """Run commands, and print what went wrong."""
    import faulthandler
    import signal

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from pipeline.ops.settings_sources import refused_values

    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not faulthandler.is_enabled():
        faulthandler.enable()  # if a library crashes the process, the log shows where
    try:
        command()
    except expected as error:  # some are OSErrors, too
        from consumers.cli.console import escape_markup
        from consumers.cli.role_process import sentence
        from consumers.cli.roles import err

        err.print(f"[bold red]Error:[/bold red] {escape_markup(sentence(error))}", highlight=False, soft_wrap=True)
        sys.exit(getattr(error, "exit_code", 2 if isinstance(error, SettingsError) else 1))
    except OSError as error:
        if error.filename is not None or error.errno not in _NO_ROOM:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # flushing the rest would fail again when Python exits
        sys.stderr.write(
            f"Error: the output cannot be written ({error.strerror}). The command may have been carried out anyway.\n"
        )
        sys.exit(1)
    except ValidationError as error:
        from consumers.cli.console import escape_markup
        from consumers.cli.roles import err

        err.print("[bold red]Error:[/bold red] the settings are not valid:")
        for finding in refused_values(error):
            place = f"{finding.what}: " if finding.what else ""
            err.print(f"  {escape_markup(f'{place}{finding.problem}')}", highlight=False, soft_wrap=True)
        sys.exit(2)
