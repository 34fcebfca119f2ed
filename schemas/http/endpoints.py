"""Endpoints in requests and answers of the HTTP API.

No answer contains a token or the value of a custom header. A signing secret is shown once, when it is created.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
)

from schemas.authentication import TOKEN, check_authentication
from schemas.client_certificate import check_client_certificate
from schemas.custom_headers import MAX_HEADERS, check_headers
from schemas.event import EventType
from schemas.event_type_versions import PINS_DESCRIPTION, check_versions
from schemas.event_types import BUILT_IN, EventName, EventTypes, types_in
from schemas.filter_texts import check_filters, filters_schema
from schemas.http.answers import Answer, ErrorAnswer, ListAnswer, Time
from schemas.http.attempts import AttemptAnswer
from schemas.http.authentication import AuthenticationAnswer, AuthenticationInput
from schemas.http.client_certificate import ClientCertificateAnswer, ClientCertificateInput
from schemas.http.signatures import PublicKeyAnswer, SignatureHeaderAnswer, SignatureHeaderInput
from schemas.retry_policy import RETRY_POLICY_DESCRIPTION, STANDARD, check_retry_policy
from schemas.signatures import check_signature_header, check_signature_versions
from schemas.verification import VERIFICATION_DESCRIPTION, Verification, check_verification

MAX_DESCRIPTION: Final = 1000
MAX_PER_SECOND: Final = 10_000

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class EndpointInput(BaseModel):
    """The member ``endpoint`` of a request body. Omitted fields keep their values; see ``model_fields_set``.

    Unknown members are kept in ``model_extra``, so that the answer can say that they were ignored. Every error is a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    target_url: str = Field(default="", description="Where the webhooks are sent: http(s), no fragment, no user name.")
    events: tuple[EventName, ...] = Field(default=(), description="The event types that are sent; at least one.")
    token: SecretStr | None = Field(default=None, description="Sent as Authorization: Bearer …; null removes it. Never shown.")
    authentication: AuthenticationInput | None = Field(
        default=None,
        description="How requests authenticate, in addition to their signature. null: not at all. One type at a time; bearer is what "
        "token sets.",
    )
    signature_versions: tuple[Literal["v1", "v1a"], ...] = Field(
        default=("v1",),
        description="The signatures in webhook-signature: always v1. Adding v1a (Ed25519) creates a key pair, and removing it "
        "deletes the pair.",
    )
    signature_header: SignatureHeaderInput | None = Field(
        default=None, description="A second header with an HMAC-SHA256 of the body, for receivers that cannot change; null: none."
    )
    client_certificate: ClientCertificateInput | None = Field(
        default=None, description="For mutual TLS: certificate and private key, PEM; null: none. Works with any authentication."
    )
    headers: dict[str, SecretStr | None] | None = Field(
        default=None,
        description="Headers that are sent with every request; null removes one (or all of them), others stay. Never shown.",
        json_schema_extra={"maxProperties": MAX_HEADERS},
    )
    filters: tuple[str, ...] = Field(
        default=(),
        description="Expressions (CEL) over event and data; all must be true. An object of paths with their values is accepted too.",
        json_schema_extra=filters_schema,
    )
    active: bool = Field(
        default=True, description="False pauses it. True also reactivates an endpoint that was disabled because it failed."
    )
    disabled: bool = Field(
        default=False,
        description="True disables it: like a pause, but lists show it as disabled, and by whom. active: true ends it.",
    )
    max_per_second: int | None = Field(default=None, description="Maximum requests per second; null: no limit.")
    retry_policy: str | None = Field(default=STANDARD, description=RETRY_POLICY_DESCRIPTION)
    verification: str | None = Field(
        default=Verification.NONE.value,
        description=VERIFICATION_DESCRIPTION,
        json_schema_extra={"enum": [*Verification, None]},
    )
    ordered: bool = Field(
        default=False,
        description="Events with the same key (such as one order) are sent one at a time, in order. One that fails holds back those after it.",
    )
    event_type_versions: dict[str, int] = Field(
        default_factory=dict,
        description=PINS_DESCRIPTION,
        json_schema_extra={"anyOf": [{"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "null"}]},
    )
    description: str = Field(
        default="",
        description="For people. The dashboard uses the first line as the endpoint's name.",
        json_schema_extra={"maxLength": MAX_DESCRIPTION},
    )

    @field_validator("target_url", mode="before")
    @classmethod
    def _check_target_url(cls, value: object) -> str:
        # The rules for the URL itself need the address guard, so the API checks them.
        if isinstance(value, str) and value:
            return value
        raise ValueError("target_url must be a URL, such as https://hooks.example.com/orders.")

    @field_validator("events", mode="before")
    @classmethod
    def _check_events(cls, value: object, info: ValidationInfo) -> tuple[str, ...]:
        return check_events(value, types_in(info))

    @field_validator("token", mode="before")
    @classmethod
    def _check_token(cls, value: object) -> str | None:
        if value is None or (isinstance(value, str) and TOKEN.fullmatch(value)):
            return value
        raise ValueError("token must be 1 to 1024 visible ASCII characters without spaces, or null to remove it.")

    _check_authentication = field_validator("authentication", mode="before")(check_authentication)
    _check_signature_versions = field_validator("signature_versions", mode="before")(check_signature_versions)
    _check_signature_header = field_validator("signature_header", mode="before")(check_signature_header)
    _check_client_certificate = field_validator("client_certificate", mode="before")(check_client_certificate)
    _check_headers = field_validator("headers", mode="before")(check_headers)
    _check_filters = field_validator("filters", mode="before")(check_filters)

    @field_validator("active", "disabled", "ordered", mode="before")
    @classmethod
    def _check_bool(cls, value: object, info: ValidationInfo) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError(f"{info.field_name} must be true or false.")

    @field_validator("max_per_second", mode="before")
    @classmethod
    def _check_max_per_second(cls, value: object) -> int | None:
        # True is an int in Python, but not a number of requests.
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_PER_SECOND):
            return value
        raise ValueError(f"max_per_second must be a whole number from 1 to {MAX_PER_SECOND}, or null for no limit.")

    _check_retry_policy = field_validator("retry_policy", mode="before")(check_retry_policy)

    @field_validator("event_type_versions", mode="before")
    @classmethod
    def _check_event_type_versions(cls, value: object, info: ValidationInfo) -> dict[str, int]:
        return check_versions(value, types_in(info))

    _check_verification = field_validator("verification", mode="before")(check_verification)

    @field_validator("description", mode="before")
    @classmethod
    def _check_description(cls, value: object) -> str:
        text = "" if value is None else value
        if isinstance(text, str) and len(text) <= MAX_DESCRIPTION and not _CONTROL.search(text):
            return text
        raise ValueError(f"description must be text of at most {MAX_DESCRIPTION} characters, without control characters.")


def check_events(value: object, types: EventTypes = BUILT_IN) -> tuple[str, ...]:
    """Event types that an endpoint may subscribe to, in order.

    Raises:
        ValueError: they are not known event types; the text is a sentence.
    """
    if not isinstance(value, list) or not value or not all(isinstance(event, str) for event in value):
        raise ValueError(f"events must be a list of one or more event types: {', '.join(types.names)}.")
    if unknown := [event for event in value if event not in types.by_name]:
        names = ", ".join(repr(event[:50]) for event in unknown[:5]) + (" and more" if len(unknown) > 5 else "")
        raise ValueError(f"events has unknown event types: {names}. Known types: {', '.join(types.names)}.")
    return types.in_order(value)


def in_order(events: Sequence[str]) -> tuple[str, ...]:
    """Each event type once, in the order of `EventType`; unknown ones last."""
    known = [event.value for event in EventType]
    return tuple(sorted(dict.fromkeys(events), key=lambda event: known.index(event) if event in known else len(known)))


class HeldCountConflict(ErrorAnswer):
    """409: another number of deliveries is held. Nothing was dropped."""

    held_count: int = Field(description="The current number.")


class InOrderAnswer(Answer):
    """An endpoint's waiting ordered deliveries, and the oldest one that others wait for."""

    waiting: int = Field(description="Deliveries that wait, including those that the others wait for.")
    keys: int = Field(description="Keys (orders) whose next delivery has not succeeded yet.")
    since: Time | None = Field(description="When the oldest of those next deliveries was written.")
    event_id: str = Field(description="The event of that delivery.")
    event_key: str = Field(description="Its event key, as in oms-event-key.")
    reason: str = Field(
        description="Why it waits: retry, endpoint_not_active, or why it is not admitted (circuit_open, rate_limited, …)."
    )
    next_attempt_at: Time | None = Field(description="When its next attempt is due. null: when the endpoint is active again.")


class FilterFailureAnswer(Answer):
    """A filter that returned neither true nor false. Nothing was sent for the events that it failed on."""

    expression: str = Field(description="The filter, or the part of it that failed.")
    reason: str = Field(description="Why, in a sentence.")
    event_id: str = Field(description="The last event that it failed on.")
    count: int = Field(description="How many events it has failed on, as far as reported.")
    at: Time


class EndpointAnswer(Answer):
    """An endpoint. ``active`` says whether anything is sent to it; if not, ``state`` says why (``paused``, ``disabled`` or
    ``unverified``), and deliveries are held.

    ``failing_since``: since when no attempt has succeeded, if one has failed since. ``circuit``: ``closed`` (good), ``open``
    (deliveries are on hold) or ``half_open`` (the next delivery is a probe), as last reported by a process.
    """

    id: int
    target_url: str
    events: tuple[str, ...]
    active: bool
    description: str
    filters: tuple[str, ...] = Field(description="Expressions (CEL) over event and data; all must be true.")
    filter_failure: FilterFailureAnswer | None = Field(
        description="The filter that failed last, if one has failed since the filters were changed."
    )
    has_token: bool = Field(description="Whether there is a bearer token.")
    authentication: AuthenticationAnswer = Field(description="How requests authenticate, without the secret.")
    signature_versions: tuple[str, ...] = Field(description="The signatures in webhook-signature.")
    public_keys: list[PublicKeyAnswer] = Field(description="The public keys that verify v1a signatures, newest first.")
    signature_header: SignatureHeaderAnswer | None
    client_certificate: ClientCertificateAnswer | None
    header_names: list[str] = Field(description="The names of its custom headers; their values are never shown.")
    unsent_headers: list[str] = Field(
        description="The names in header_names that are no longer sent, because many servers treat them as headers of the connection."
    )
    created_at: Time
    updated_at: Time
    version: int
    max_per_second: int | None
    state: str
    disabled_reason: str | None
    disabled_at: Time | None
    disabled_by: str | None = Field(default=None, description="Who disabled it. null: it was disabled because it failed.")
    failing_since: Time | None
    circuit: str
    problem: str | None = Field(
        description="Why nothing can be sent to it, and what to do: its secrets cannot be decrypted. Its deliveries wait."
    )
    held_count: int = Field(default=0, description="Deliveries that wait until it is resumed: they use up no attempt.")
    held_since: Time | None = Field(default=None, description="Since when the oldest of them has been waiting.")
    will_be_disabled_at: Time | None = Field(
        default=None, description="When a failing endpoint will be disabled, if nothing succeeds by then."
    )
    owner_told: list[str] = Field(
        default_factory=list,
        description="Operational events about its current failure: endpoint.failing, endpoint.will_be_disabled (50%, 75% or 90% of "
        "the time).",
    )
    retry_policy: str = Field(default=STANDARD, description="standard, patient, impatient, or delays such as 5s,1m,10m.")
    retry_delays: list[str] = Field(
        default_factory=list, description="The delays that this policy means now, one for each retry."
    )
    retry_words: str = Field(default="", description="The same information as a sentence.")
    verification: str = Field(default=Verification.NONE.value, description="none, cloudevents_handshake or signed_event.")
    verified_at: Time | None = Field(default=None, description="When its target_url was verified; null: it was not.")
    verification_problem: str | None = Field(default=None, description="Why the last verification failed; null if it did not.")
    ordered: bool = Field(default=False, description="Whether events with one key are sent one after the other, in order.")
    event_type_versions: dict[str, int] = Field(
        default_factory=dict, description="Event types that are sent in this version only; the others are sent in every version."
    )
    in_order: InOrderAnswer | None = Field(
        default=None, description="Ordered deliveries that wait for one that has not succeeded. null: none."
    )


class EndpointWritten(EndpointAnswer):
    """The answer to a change. ``ignored_fields`` are the unknown members of ``endpoint``."""

    ignored_fields: list[str]


class EndpointCreated(EndpointWritten):
    """The answer to a create or a new secret. No other answer shows the signing ``secret``."""

    secret: str


class EndpointWithAttempts(EndpointAnswer):
    """An endpoint with its last attempts, newest first (``include_attempts=true``)."""

    attempts: list[AttemptAnswer]


class EndpointListAnswer(ListAnswer):
    """A page of endpoints."""

    endpoints: list[SerializeAsAny[EndpointAnswer]]
