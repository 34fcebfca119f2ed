"""The keys of a pipeline whose data outlives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consumers.cli.embedded import _kept


def test_keys_are_kept_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk left an empty file, and every later start ended with a traceback."""
    path = tmp_path / "keys.json"
    with monkeypatch.context() as full:

        def fail(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        full.setattr(json, "dump", fail)
        with pytest.raises(OSError, match="No space"):
            _kept(path, {"api_key": "a"})
    assert _kept(path, {"api_key": "b"}) == {"api_key": "b"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert _kept(path, {"api_key": "c"}) == {"api_key": "b"}
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]
