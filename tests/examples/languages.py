"""The example receivers of ``docs/examples/receivers``: how each is built and started. A missing program fails the test, and is named.

Python, Node and Go get the public Standard Webhooks library from their registries. Not every machine reaches those
of Ruby and PHP: their examples run with a stand-in of the library (``stand_ins``), so the tests cover the examples, and the signatures
with another language's HMAC, but not the public library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.examples.building import EXAMPLES, VENV, require, run

_STAND_INS = Path(__file__).parent / "stand_ins"
_LISTEN = "127.0.0.1:{port}"


@dataclass(frozen=True)
class Language:
    """An example. Commands run in a copy of its directory; ``{here}`` is that copy, ``{port}`` the port to listen on.

    ``packages`` names the Debian package of each program. ``beside`` are directories to copy into the example's.
    """

    packages: Mapping[str, str]
    build: Sequence[Sequence[str]]
    start: Sequence[Sequence[str]]
    beside: Sequence[Path] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


LANGUAGES: dict[str, Language] = {
    "python": Language(
        packages={},
        build=VENV,
        start=[["{here}/.venv/bin/flask", "--app", "receiver", "run", "--port", "{port}"]],
    ),
    "node": Language(
        packages={"node": "nodejs", "npm": "npm"},
        build=[["npm", "install", "--no-audit", "--no-fund", "--no-update-notifier"]],
        start=[["node", "receiver.js"]],
    ),
    "go": Language(
        packages={"go": "golang-go (1.21 or newer)"},
        build=[["go", "build", "-o", "receiver", "."], ["go", "vet", "."]],
        start=[["{here}/receiver"]],
    ),
    "ruby": Language(
        packages={"ruby": "ruby", "puma": "puma"},
        build=[["ruby", "-c", "config.ru"]],
        start=[["puma", "--bind", f"tcp://{_LISTEN}"]],
        beside=[_STAND_INS / "ruby"],
        variables={"RUBYLIB": "{here}"},
    ),
    "php": Language(
        packages={"php": "php-cli"},
        build=[["php", "-l", "receiver.php"], ["php", "-l", "worker.php"]],
        start=[["php", "-S", _LISTEN, "receiver.php"], ["php", "worker.php"]],
        beside=[_STAND_INS / "php"],
    ),
}


def build(name: str, here: Path) -> None:
    """Copy an example to ``here``, and build it there as its manifest says."""
    language = LANGUAGES[name]
    for program, package in language.packages.items():
        require(program, package)
    shutil.copytree(EXAMPLES / "receivers" / name, here)
    for directory in language.beside:
        shutil.copytree(directory, here, dirs_exist_ok=True)
    for command in language.build:
        run(command, here)


class Example:
    """A built example as a process (or two). It can be killed and started again."""

    def __init__(self, name: str, here: Path, directory: Path, port: int) -> None:
        """``here`` is where it was built, ``directory`` where it keeps its webhooks."""
        self._language = LANGUAGES[name]
        self._here = here
        self._directory = directory
        self._port = port
        # Two files, so that the output of other threads does not break the lines about handled webhooks.
        self._output = directory / "output"
        self._errors = directory / "errors"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = f"http://127.0.0.1:{port}/webhooks"

    def start(self, secret: str, *, work_seconds: float = 0) -> None:
        """Start; it listens a little later."""
        variables = {
            "WEBHOOK_SECRET": secret,
            "PORT": str(self._port),
            "INBOX": str(self._directory / "inbox"),
            "WORK_SECONDS": str(work_seconds),
            **{name: value.format(here=self._here) for name, value in self._language.variables.items()},
        }
        for command in self._language.start:
            words = [part.format(here=self._here, port=self._port) for part in command]
            with self._output.open("ab") as output, self._errors.open("ab") as errors:
                process = subprocess.Popen(words, cwd=self._here, env=os.environ | variables, stdout=output, stderr=errors)
            self._processes.append(process)

    def kill(self) -> None:
        """Kill it like a power failure: at once, without cleanup."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def output(self) -> str:
        """Return its standard output from before and after a kill."""
        for process in self._processes:
            assert process.poll() is None, f"the example ended on its own:\n{self._errors.read_text()}"
        return self._output.read_text()

    def handled(self) -> list[str]:
        """Return the ids of the webhooks that it handled, in order; one handled twice is there twice."""
        return [line.split()[1] for line in self.output().splitlines() if line.startswith("handled ")]
