"""Removes an endpoint's secrets from its answers: a :class:`Redactor` for each endpoint."""

from pipeline.core.redaction.redactor import REDACTED, Redactor

__all__ = ["REDACTED", "Redactor"]
