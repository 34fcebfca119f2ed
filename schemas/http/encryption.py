"""The encryption state of the endpoints' secrets, in answers of the HTTP API."""

from __future__ import annotations

from pydantic import (
    Field,
)

from schemas.http.answers import Answer


class EncryptionAnswer(Answer):
    """How the endpoints' secrets are encrypted. When ``remaining`` and ``unusable`` are 0, the first key alone is needed."""

    keys: int = Field(description="Keys in encryption_key of the process that answers.")
    endpoints: int
    remaining: int = Field(description="Endpoints whose secrets are encrypted with another key than the first.")
    unusable: int = Field(description="Endpoints that none of the keys opens.")
    reencrypted: int = Field(default=0, description="How many endpoints this request re-encrypted.")
