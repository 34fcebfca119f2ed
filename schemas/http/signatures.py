"""An endpoint's signatures in addition to that of its signing secret, and rotations, in requests and answers of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, WithJsonSchema, field_validator

from schemas.codec import format_time
from schemas.signatures import DEFAULT_OVERLAP_HOURS, MAX_OVERLAP_HOURS

_Time = Annotated[
    datetime,
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class SignatureHeaderInput(BaseModel):
    """A second header with an HMAC-SHA256 of the body, for receivers that cannot change."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    name: str = Field(description="The header's name, such as X-Hub-Signature-256.")
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = Field(default="", description="Written before the HMAC, such as sha256=.")
    secret: SecretStr | None = Field(
        default=None,
        description="The key, used as written. Never shown. If omitted: the existing one, or else the signing secret "
        "including whsec_.",
    )


class SignatureHeaderAnswer(BaseModel):
    """The second header, without its secret."""

    model_config = ConfigDict(frozen=True)

    name: str
    encoding: str
    prefix: str
    has_secret: bool = Field(description="Whether it has its own secret.")


class PublicKeyAnswer(BaseModel):
    """A public key that verifies signatures of version v1a."""

    model_config = ConfigDict(frozen=True)

    key: str = Field(description="whpk_ and the base64 of the 32 bytes of an Ed25519 key.")
    kid: str = Field(description="Its key id in the JWKS: the thumbprint (RFC 7638).")
    expires_at: _Time | None = Field(description="Until when it is still used to sign, if it was rotated out.")


class RotationInput(BaseModel):
    """The member ``rotation`` of a request body."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    overlap_hours: int = Field(
        default=DEFAULT_OVERLAP_HOURS,
        description="For how many hours the previous one is also used to sign. 0: not at all.",
        json_schema_extra={"minimum": 0, "maximum": MAX_OVERLAP_HOURS},
    )

    @field_validator("overlap_hours", mode="before")
    @classmethod
    def _check_overlap(cls, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_OVERLAP_HOURS:
            return value
        raise ValueError(f"overlap_hours must be a whole number from 0 to {MAX_OVERLAP_HOURS}: hours, up to seven days.")


class RotationBody(BaseModel):
    """The body of a rotation; it may be omitted."""

    rotation: RotationInput
