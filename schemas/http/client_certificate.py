"""An endpoint's client certificate in requests and answers of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, WithJsonSchema

from schemas.codec import format_time


class ClientCertificateInput(BaseModel):
    """Mutual TLS. Without both texts, the existing certificate is kept."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    certificate: SecretStr | None = Field(default=None, description="PEM: the certificate, followed by its CA certificates.")
    private_key: SecretStr | None = Field(default=None, description="PEM, without a passphrase. Never shown.")


class ClientCertificateAnswer(BaseModel):
    """The public data of a client certificate."""

    model_config = ConfigDict(frozen=True)

    subject: str
    expires_at: Annotated[
        datetime,
        PlainSerializer(format_time, return_type=str),
        WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
    ]
    fingerprint: str = Field(description="SHA-256, in hexadecimal.")
