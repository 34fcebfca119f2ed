"""Removes an endpoint's secrets from its answers: a :class:`Redactor` for each endpoint.

Pure. Uses nothing else of `pipeline`, except the values of an exchange. Start reading in `redactor.py`.
"""

from pipeline.core.redaction.redactor import REDACTED, Redactor

__all__ = ["REDACTED", "Redactor"]
