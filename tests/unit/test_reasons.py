"""Which slow tests say why, as ``pytest --reasons`` sees it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.reasons import says_why


def one(folder: Path, docstring: str | None) -> Any:
    chain = [
        SimpleNamespace(),
        SimpleNamespace(obj=SimpleNamespace(__doc__=None)),
        SimpleNamespace(obj=SimpleNamespace(__doc__=docstring)),
    ]
    return SimpleNamespace(path=folder / "test_x.py", listchain=lambda: chain)


@pytest.mark.parametrize(
    ("docstring", "is_said"),
    [
        ("It takes two seconds: for that long, no answer comes.", True),
        ("What comes late is used.\n\nMost tests take a second or more: a join takes half a session.", True),
        ("Built once. That takes long: programs are compiled.", True),
        ("It takes some ten seconds of CPU.", True),
        ("A second start is told who started the first.", False),
        ("It takes longer than another.", False),
        ("", False),
        (None, False),
    ],
)
def test_a_reason_says_how_long_it_takes(tmp_path: Path, docstring: str | None, is_said: bool) -> None:
    assert says_why(one(tmp_path, docstring)) is is_said


def test_a_folder_may_say_it_for_all_of_its_tests(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('"""Each start takes seconds."""\n')
    (tmp_path / "deeper").mkdir()
    assert says_why(one(tmp_path / "deeper", None))
