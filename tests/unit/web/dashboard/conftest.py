"""Fixtures of the dashboard's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.web.dashboard.visitor import Visitor
    from tests.unit.web.service import Service


@pytest.fixture
async def visitor(service: Service) -> AsyncIterator[Visitor]:
    """A visitor who is not logged in."""
    from tests.unit.web.dashboard.visitor import visiting  # noqa: PLC0415 - it imports kafka-python, see the conftest above

    async with visiting(service) as one:
        yield one


@pytest.fixture
async def admin(visitor: Visitor) -> Visitor:
    """A visitor who is logged in as an admin."""
    assert (await visitor.log_in()).status == 200
    return visitor
