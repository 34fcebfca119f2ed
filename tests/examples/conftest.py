"""The examples of the documentation, built once. This takes long: it fetches packages and compiles programs."""

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
    """Return a function that builds a language's example once, and returns its directory."""
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
    """Provide the example in the test's language, not yet started."""
    receiver = Example(language, built(language), tmp_path, free_port())
    yield receiver
    receiver.kill()
