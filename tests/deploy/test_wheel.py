"""The installed package, without a checkout next to it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.web.guide import guide

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(400)
def test_the_wheel_contains_the_guide_for_integrators(tmp_path: Path) -> None:
    """It takes long: pip fetches the build requirements."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "installed")
    show = "import pathlib, pipeline.web.guide as g; print(g.__file__); pathlib.Path('page').write_text(g.guide().text)"
    run = subprocess.run(
        [sys.executable, "-c", show],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.startswith(str(tmp_path))
    assert (tmp_path / "page").read_text() == guide().text
