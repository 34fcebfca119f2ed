"""What was sent to an endpoint as a secret is cut out of what it answers: a :class:`Redactor` for each endpoint."""

from pipeline.core.redaction.redactor import REDACTED, Redactor

__all__ = ["REDACTED", "Redactor"]
