"""A number and what it counts, in the singular or the plural. Pure."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 endpoint``, ``2,000 endpoints``, ``0 bodies``. ``plural``: if it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
