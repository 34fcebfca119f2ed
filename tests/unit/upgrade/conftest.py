"""Fixtures of the upgrade tests: those of the HTTP API."""

from __future__ import annotations

from tests.unit.web.conftest import service

__all__ = ["service"]
