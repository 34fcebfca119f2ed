"""The examples of the documentation, built once. That takes long: packages are fetched, and programs are compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.devtools.local_process import free_port
from tests.examples.languages import Example, build
from tests.integration.conftest import start_pipeline

__all__ = ["start_pipeline"]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where the example of a language was built. Each is built once."""
    where: dict[str, Path] = {}

    def find(language: str) -> Path:
        if language not in where:
            here = tmp_path_factory.mktemp(language) / "receiver"
            build(language, here)
            where[language] = here
        return where[language]

    return find


@pytest.fixture
def example(language: str, built: Callable[[str], Path], tmp_path: Path) -> Iterator[Example]:
    """The example of the test's language, not started yet."""
    receiver = Example(language, built(language), tmp_path, free_port())
    yield receiver
    receiver.kill()
