"""The encryption state of the endpoints' secrets, in answers of the HTTP API."""

from __future__ import annotations

from pydantic import (
    Field,
)

from schemas.http.answers import Answer


class EncryptionAnswer(Answer):
    """How the endpoints' secrets are encrypted. If ``remaining`` and ``unusable`` are 0, only the first key is needed."""

    keys: int = Field(description="Keys in the answering process's encryption_key.")
    endpoints: int
    remaining: int = Field(description="Endpoints with secrets that are encrypted with a key other than the first.")
    unusable: int = Field(description="Endpoints whose secrets none of the keys can decrypt.")
    reencrypted: int = Field(default=0, description="How many endpoints this request re-encrypted.")
