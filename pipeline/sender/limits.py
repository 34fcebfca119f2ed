"""Limits for exchanges."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SenderLimits:
    """Limits for all exchanges together (`connections`, and `idle` ones) and for each (seconds, kept bytes of the body)."""

    connections: int = 512
    total_timeout: float = 15.0
    connect_timeout: float = 5.0
    response_bytes: int = 16384
    idle: int = 512

    def __post_init__(self) -> None:
        if self.connections < 1 or self.response_bytes < 0:
            raise ValueError("connections must be at least 1 and response_bytes at least 0")
        if not 0 < self.connect_timeout < self.total_timeout:
            raise ValueError("connect_timeout must be above 0 and below total_timeout")
