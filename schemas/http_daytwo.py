"""The HTTP API's requests and answers of operating it: encryption keys, backups of endpoints, replays, erasures."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class EncryptionAnswer(_Answer):
    """How the endpoints' secrets are sealed. When ``remaining`` and ``unusable`` are 0, the first key alone is needed."""

    keys: int = Field(description="Keys in encryption_key of the process that answers.")
    endpoints: int
    remaining: int = Field(description="Endpoints that are sealed with another key than the first.")
    unusable: int = Field(description="Endpoints that none of the keys opens.")
    reencrypted: int = Field(default=0, description="How many this request sealed anew.")
