"""Builds examples in a copy of their directory: required programs, and commands that must succeed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
VENV: Sequence[Sequence[str]] = [
    [sys.executable, "-m", "venv", ".venv"],
    ["{here}/.venv/bin/python", "-m", "pip", "install", "--quiet", "--requirement", "requirements.txt"],
]
_SECONDS = 600


def require(program: str, package: str) -> None:
    """Fail if a program is missing, and say what to install: nothing is skipped."""
    assert shutil.which(program), f"The examples need {program}: apt-get install {package}"


def run(command: Sequence[str], here: Path, *, given: str = "") -> str:
    """Run a command in ``here``, which replaces ``{here}`` in it; returns its output."""
    words = [part.replace("{here}", str(here)) for part in command]
    done = subprocess.run(words, cwd=here, input=given, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}"
    return done.stdout
