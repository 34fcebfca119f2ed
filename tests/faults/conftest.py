"""What the fault tests share: a seed, and a way to tell figures though output is captured."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import TypeAlias

import pytest

Tell: TypeAlias = Callable[[str], None]


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config) -> Tell:
    """Print in any case: the figures of a run that went well are its result."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def printed(text: str) -> None:
        if capture is None:
            print(text, flush=True)
            return
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", flush=True)

    return printed


@pytest.fixture(scope="session")
def seed(tell: Tell) -> int:
    """Chooses the moments of the kills, the events and the failures. A run is repeated with ``FAULTS_SEED=…``."""
    chosen = int(os.environ.get("FAULTS_SEED") or secrets.randbelow(1_000_000))
    tell(f"FAULTS_SEED={chosen}")
    return chosen
