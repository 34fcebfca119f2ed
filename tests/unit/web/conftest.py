"""Fixtures of the HTTP API's tests."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from tests.unit.web.service import Service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """The running application."""
    # Imported here because kafka-python warns on import, and that warning is not yet ignored when conftests are loaded.
    from tests.unit.web.service import running_service  # noqa: PLC0415

    async with running_service() as running:
        yield running


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything logged at debug level or above, by us (as JSON) and by the libraries."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=False,
    )
    caplog.set_level(logging.DEBUG)
    yield caplog
    structlog.reset_defaults()
