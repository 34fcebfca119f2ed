"""``make`` also installs on other machines: without python3-venv, without uv, and in a directory with a space in its name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Like Debian's without the package python3-venv: half of an environment is left behind.
PYTHON = """#!/bin/sh
case "$*" in
"-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; [ -e has-venv ] ;;
"-m pip install "*" uv") printf '#!/bin/sh\\necho uv "$@" >>done' >.venv/bin/uv; chmod +x .venv/bin/uv ;;
"-m pip "*) echo pip "$@" >>done ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    directory = tmp_path / "my shop"
    directory.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, directory)
    python = tmp_path / "python"
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / "bin").mkdir()
    for name in ("chmod", "cp", "make", "mkdir", "rm", "sh", "touch"):  # and no uv
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    return directory


def install(clone: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", f"PYTHON={clone.parent / 'python'}", ".venv/.installed-demo"]
    return subprocess.run(
        command, cwd=clone, env={"PATH": str(clone.parent / "bin")}, capture_output=True, text=True, check=False
    )


def test_a_broken_environment_is_not_kept(clone: Path) -> None:
    """The next make found its Python and failed without pip, even after the missing package was installed."""
    assert install(clone).returncode == 2
    assert not (clone / ".venv").exists()
    (clone / "has-venv").touch()
    assert install(clone).returncode == 0


def test_uv_is_found_in_a_directory_with_a_space(clone: Path) -> None:
    (clone / "has-venv").touch()
    made = install(clone)
    assert (made.returncode, made.stderr) == (0, "")
    assert (clone / "done").read_text() == (
        "uv pip install --python .venv/bin/python --constraint requirements.lock --editable .[embedded]\n"
        "uv pip install --python .venv/bin/python --quiet --no-deps --reinstall-package chdb --constraint requirements.lock chdb\n"
    )
