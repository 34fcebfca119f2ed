"""The form of an endpoint: its initial content, and the input that was sent. The API's rules apply to the fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from multidict import MultiDictProxy

from pipeline.core.filters.stored import texts_of
from pipeline.core.retry_policies import RetryPolicies
from pipeline.web.api.wrapped_input import validated
from pipeline.web.dashboard.authentication_fields import (
    AUTHENTICATION_FIELDS,
    AuthenticationForm,
    authentication_of_others,
    given_authentication,
    sent_form,
    shown_form,
)
from pipeline.web.dashboard.signature_fields import (
    CERTIFICATE_FIELDS,
    SIGNATURE_FIELDS,
    SignatureForm,
    given_certificate,
    given_signatures,
    sent_signature_form,
    shown_signature_form,
    signatures_of_others,
)
from pipeline.web.dashboard.text_filters import words
from pipeline.web.errors import InvalidError
from pipeline.web.filter_check import CompilableEndpointInput
from pipeline.web.request_values import digits
from schemas.endpoint import EndpointRecord
from schemas.event_type_versions import pins_of, text_of
from schemas.event_types import EventTypes
from schemas.http.endpoints import EndpointInput
from schemas.retry_policy import POLICY_NAMES, STANDARD
from schemas.verification import Verification

CUSTOM_RETRIES: Final = "custom"
"""The form's value for custom delays."""
_NO_EVENTS: Final = "Select at least one event type."


FIELDS: Final = (
    *("target_url", "events", "description", "max_per_second", "retry_policy", "retry_delays", "ordered"),
    *("filters", "token", "remove_token", "active", "version", "verification", "event_type_versions"),
    *AUTHENTICATION_FIELDS,
    *SIGNATURE_FIELDS,
    *CERTIFICATE_FIELDS,
)
"""The fields that an endpoint's form sends."""
_SECRETS: Final[Mapping[str, str]] = {
    "token": "Token",
    "auth_password": "Password",
    "auth_key": "API key",
    "auth_client_secret": "Client secret",
    "signature_secret": "Key of the second signature",
    "certificate": "Certificate",
    "private_key": "Private key",
}
"""The fields that are never sent back to a page, and their labels."""
_AS_IN_FORM: Final = (
    (", or null for no limit", ", or empty for no limit"),
    (", or null to remove it", ""),
    ('must be an object of event types with a version each, such as {"refund_issued": 1}', "must be written as refund_issued=1"),
)
"""Words of the API's sentences that would mislead in a form, and the form's own."""
_ANY_POLICY: Final = f"retry_policy must be {', '.join(POLICY_NAMES)}, or one to"


@dataclass(frozen=True, slots=True)
class EndpointForm:
    """The content of the fields, as text, and their errors: sentences by field."""

    target_url: str = ""
    events: Sequence[str] = ()
    description: str = ""
    max_per_second: str = ""
    retry_policy: str = STANDARD
    """The name of a policy, or CUSTOM_RETRIES, with the delays in ``retry_delays``."""
    retry_delays: str = ""
    verification: str = Verification.NONE.value
    is_ordered: bool = False
    filters: str = ""
    event_type_versions: str = ""
    version: str = ""
    is_active: bool = True
    has_token: bool = False
    authentication: AuthenticationForm = field(default_factory=AuthenticationForm)
    signatures: SignatureForm = field(default_factory=SignatureForm)
    errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    again: Sequence[str] = ()
    """The labels of secrets that were typed. They are not sent back to the page, so they must be typed again."""
    others: Mapping[str, str] = field(default_factory=dict)
    """The current values of the fields that somebody else has changed, as text."""


def shown(record: EndpointRecord) -> EndpointForm:
    """The form of an existing endpoint."""
    return EndpointForm(
        target_url=record.target_url,
        events=record.events,
        description=record.description,
        max_per_second="" if record.max_per_second is None else str(record.max_per_second),
        retry_policy=record.retry_policy if record.retry_policy in POLICY_NAMES else CUSTOM_RETRIES,
        retry_delays="" if record.retry_policy in POLICY_NAMES else record.retry_policy,
        verification=record.verification,
        is_ordered=record.ordered,
        filters="\n".join(texts_of(record)),
        event_type_versions=text_of(record.event_type_versions),
        version=str(record.version),
        has_token=record.sealed_token is not None,
        authentication=shown_form(record),
        signatures=shown_signature_form(record),
    )


def sent(form: MultiDictProxy[str], errors: Mapping[str, Sequence[str]], stored: EndpointRecord | None = None) -> EndpointForm:
    """The form as it was sent, to be corrected. Secrets are left out, so that they never appear on a screen."""
    return EndpointForm(
        target_url=form.get("target_url", ""),
        events=form.getall("events", []),
        description=form.get("description", "").replace("\r\n", "\n"),
        max_per_second=form.get("max_per_second", ""),
        retry_policy=form.get("retry_policy", STANDARD),
        retry_delays=form.get("retry_delays", ""),
        verification=form.get("verification", Verification.NONE),
        is_ordered="ordered" in form,
        filters=form.get("filters", ""),
        event_type_versions=form.get("event_type_versions", ""),
        version=form.get("version", ""),
        is_active="active" in form,
        has_token=stored is not None and stored.sealed_token is not None,
        authentication=sent_form(form, stored),
        signatures=sent_signature_form(form, stored),
        errors=_errors_of_form(errors, form.get("retry_policy", "")),
        again=[label for name, label in _SECRETS.items() if form.get(name, "").strip()],
    )


def _errors_of_form(errors: Mapping[str, Sequence[str]], policy: str) -> Mapping[str, Sequence[str]]:
    """The errors in the words of the form, where the retry policy has two fields: one for its name, and one for custom delays."""
    found = {name: [_in_form_words(one) for one in sentences] for name, sentences in errors.items()}
    if policy == CUSTOM_RETRIES and "retry_policy" in found:
        found["retry_delays"] = [one.replace(_ANY_POLICY, "retry_delays must be one to") for one in found.pop("retry_policy")]
    return found


def _in_form_words(sentence: str) -> str:
    for of_api, of_form in _AS_IN_FORM:
        sentence = sentence.replace(of_api, of_form)
    return sentence


def beside(typed: EndpointForm, current: EndpointRecord) -> EndpointForm:
    """The input together with the endpoint's current values, so that the user sees both before saving again."""
    now = shown(current)
    both = {name: (getattr(typed, name), getattr(now, name)) for name in ("target_url", "description", "max_per_second")}
    others = {name: theirs or "(empty)" for name, (ours, theirs) in both.items() if ours.strip() != theirs.strip()}
    if (ours := _policy(typed.retry_policy, typed.retry_delays)) != current.retry_policy and ours is not None:
        others["retry_policy"] = current.retry_policy
    if typed.verification != now.verification:
        others["verification"] = dict(VERIFICATION_CHOICES).get(now.verification, now.verification)
    if typed.is_ordered != now.is_ordered:
        others["ordered"] = "in order" if now.is_ordered else "in any order"
    if set(typed.events) != set(now.events):
        others["events"] = ", ".join(words(event) for event in now.events)
    if pins_of(typed.event_type_versions) != pins_of(now.event_type_versions):
        others["event_type_versions"] = now.event_type_versions or "(none)"
    if _squeezed(typed.filters) != _squeezed(now.filters):
        others["filters"] = now.filters or "(none)"
    others |= authentication_of_others(typed.authentication, now.authentication)
    others |= signatures_of_others(typed.signatures, now.signatures)
    return replace(typed, version=now.version, others=others)


def _squeezed(filters: str) -> str:
    """The filters without whitespace, to compare them."""
    return "".join(filters.split())


def given(form: MultiDictProxy[str], types: EventTypes, *, is_new: bool) -> EndpointInput:
    """The fields that were given. An empty optional field means none. An empty token keeps the stored one.

    Raises:
        InvalidError: a field has a wrong value.
    """
    values: dict[str, Any] = {
        "target_url": form.get("target_url", "").strip(),
        "events": form.getall("events", []),
        "description": form.get("description", "").replace("\r\n", "\n").strip(),
        "max_per_second": _whole_number(form.get("max_per_second", "").strip()),
    }
    if (policy := _policy(form.get("retry_policy", ""), form.get("retry_delays", ""))) is not None:
        values["retry_policy"] = policy
    if "verification" in form:  # missing if the page was loaded before an upgrade
        values["verification"] = form["verification"]
        values["ordered"] = "ordered" in form
    if is_new:
        values["active"] = "active" in form
    if "remove_token" in form:
        values["token"] = None
    elif token := form.get("token", ""):
        values["token"] = token
    if (authentication := given_authentication(form)) is not None:
        values["authentication"] = authentication
    values |= given_signatures(form) | given_certificate(form) | _given_pins(form)
    errors: dict[str, list[str]] = {}
    values["filters"] = _filters(form.get("filters", ""))
    if not values["events"]:
        errors["events"] = [_NO_EVENTS]
    try:
        read = validated(values, CompilableEndpointInput, types=types)
    except InvalidError as error:
        raise InvalidError({**error.errors, **errors}) from None
    if errors:
        raise InvalidError(errors)
    return read


def _given_pins(form: MultiDictProxy[str]) -> dict[str, Any]:
    """The field is missing if no event type has several versions."""
    return {"event_type_versions": pins_of(form["event_type_versions"])} if "event_type_versions" in form else {}


VERIFICATION_CHOICES: Final = (
    (Verification.NONE.value, "None: webhooks are sent immediately"),
    (Verification.CLOUDEVENTS_HANDSHAKE.value, "CloudEvents handshake: the receiver allows our origin"),
    (Verification.SIGNED_EVENT.value, "Signed event: the receiver acknowledges a webhook.verify event"),
)


def retry_choices(policies: RetryPolicies) -> list[tuple[str, str]]:
    """The retry policies to choose from, with a description of each."""
    named = [(name, f"{name.capitalize()}: {policies.words(name).rstrip('.')}") for name in POLICY_NAMES]
    return [*named, (CUSTOM_RETRIES, "Custom delays")]


def _policy(chosen: str, delays: str) -> str | None:
    """The selected retry policy. None if the form has no such field (the page was loaded before an upgrade)."""
    return delays.strip() if chosen == CUSTOM_RETRIES else chosen.strip() or None


def subscribed(form: MultiDictProxy[str]) -> dict[str, Any]:
    """The fields that say which events are sent."""
    return {
        "events": form.getall("events", []),
        "filters": _filters(form.get("filters", "")),
        "event_type_versions": pins_of(form.get("event_type_versions", "")),
    }


def version_choices(types: EventTypes) -> str:
    """The event types with several versions, in words. Empty if there are none."""
    several = {name: types.versions(name) for name in types.configured if len(types.versions(name)) > 1}
    return "; ".join(f"{name} has {', '.join(map(str, known[:-1]))} and {known[-1]}" for name, known in several.items())


def _filters(text: str) -> object:
    """One expression per line, or the JSON format that this field accepted earlier."""
    if text.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def subscribes_to_all(events: Sequence[str], types: EventTypes) -> bool:
    """Whether these are all the event types."""
    return set(events) >= types.by_name.keys()


def _whole_number(text: str) -> int | str | None:
    """The number. Other text is returned unchanged, so that the field's own rule refuses it."""
    if not text:
        return None
    found = digits(text)
    return text if found is None else found
