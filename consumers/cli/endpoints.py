"""``oms-webhooks endpoints``: commands that call the HTTP API. The commands for signatures are in `consumers.cli.signatures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from consumers.cli import tables
from consumers.cli.api_client import ApiCallError, ApiClient, Key, Url, advice_for_commands, client_for
from consumers.cli.authentication_options import AuthenticationOptions, NewAuthenticationOptions
from consumers.cli.confirmation import Yes, confirmed
from consumers.cli.console import Output, visible
from consumers.cli.known_event_types import listed
from consumers.cli.option_groups import grouped
from consumers.cli.option_values import complete_event_type, id_number, not_blank
from schemas.event_type_versions import pins_of
from schemas.verification import Verification

endpoints_app = typer.Typer(no_args_is_help=True, help="Manage endpoints (through the HTTP API).")

out = Output()

RETRY_POLICY = "standard, patient, impatient, or one to five of the configured delays, such as 5s,1m,10m."

EndpointId = Annotated[int, typer.Argument(help="The endpoint's id.", parser=id_number)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]


def _pins(texts: Sequence[str]) -> object:
    """Raises typer.BadParameter: a text is not a pin, or an event type is pinned twice."""
    found = pins_of(",".join(texts))
    if isinstance(found, str):
        raise typer.BadParameter(
            f"{found!r} is not a list of pins. Write each event type once, with a version, such as refund_issued=1.",
            param_hint="pin",
        )
    return found


@dataclass(frozen=True)
class SubscriptionOptions:
    """The events that an endpoint receives."""

    event: Annotated[
        list[str] | None,
        typer.Option(
            help="An event type to subscribe to. Can be repeated. Default: all current event types.",
            callback=not_blank,
            autocompletion=complete_event_type,
        ),
    ] = None
    filter_: Annotated[list[str] | None, typer.Option("--filter", help="A filter (CEL). Can be repeated; all must be true.")] = (
        None
    )

    pin: Annotated[
        list[str] | None,
        typer.Option(help="Pin an event type to one version: refund_issued=1. Can be repeated.", callback=not_blank),
    ] = None

    def fields(self, client: ApiClient) -> dict[str, object]:
        """The fields of the endpoint. If no event type was given, the pipeline is asked for all of them."""
        wanted: dict[str, object] = {"events": self.event or list(listed(client).by_name)}
        if self.filter_:
            wanted["filters"] = self.filter_
        if self.pin:
            wanted["event_type_versions"] = _pins(self.pin)
        return wanted


@dataclass(frozen=True)
class NewEndpointOptions(NewAuthenticationOptions):
    """Optional fields of a new endpoint."""

    retry_policy: Annotated[str | None, typer.Option(help=RETRY_POLICY, callback=not_blank)] = None
    verification: Annotated[
        Verification | None, typer.Option(help="How the endpoint must be verified before it receives events. Default: none.")
    ] = None
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Send events with the same key (such as one order) one at a time, in order.")
    ] = False

    def fields(self) -> dict[str, object]:
        """The fields of the endpoint."""
        given: dict[str, object] = {
            "retry_policy": self.retry_policy,
            "verification": self.verification.value if self.verification else None,
            "ordered": self.ordered or None,
        }
        return super().fields() | {name: value for name, value in given.items() if value}


@endpoints_app.command("list")
def endpoints_list(as_json: AsJson = False, url: Url = None, api_key: Key = None) -> None:
    """List the endpoints."""
    found: list[Mapping[str, Any]] = []
    number, pages = 1, 1
    with client_for(url, api_key) as client:
        while number <= pages:
            page = client.call("GET", "endpoints", params=[("page", str(number)), ("per_page", "200")])
            found += page["endpoints"]
            number, pages = number + 1, page["pages"]
    out.print_data({"endpoints": found}) if as_json else out.print(tables.endpoints(found))


@endpoints_app.command("add")
@grouped
def endpoints_add(
    target_url: Annotated[str, typer.Argument(help="URL that webhooks are POSTed to.")],
    *,
    subscription: SubscriptionOptions,
    options: NewEndpointOptions,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Register an endpoint, and print its signing secret. The secret is shown only once."""
    chosen = options.fields()
    with client_for(url, api_key) as client:
        wanted = {"target_url": target_url, **subscription.fields(client), **chosen}
        created = client.call("POST", "endpoints", json={"endpoint": wanted})
    out.print(tables.created(created))


@endpoints_app.command("authentication")
@grouped
def endpoints_authentication(
    endpoint_id: EndpointId, *, authentication: AuthenticationOptions, url: Url = None, api_key: Key = None
) -> None:
    """Set how an endpoint's requests authenticate. --auth none: only by their signature."""
    if (asked := authentication.asked()) is None:
        raise typer.BadParameter("--auth is required: none, bearer, basic, api_key or oauth2_client_credentials.")
    with client_for(url, api_key) as client:
        changed = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"authentication": asked}})
    out.print(f"Endpoint {endpoint_id} authenticates with: {changed['authentication']['type']}.")


@endpoints_app.command("preview")
@grouped
def endpoints_preview(
    *,
    subscription: SubscriptionOptions,
    days: Annotated[int, typer.Option(min=1, max=7, help="How many days to look back.")] = 7,
    as_json: AsJson = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Show which past events an endpoint with these event types and filters would have received. Nothing is registered or sent."""
    with client_for(url, api_key) as client:
        wanted = {**subscription.fields(client), "days": days}
        found = client.call("POST", "endpoints/preview", json={"preview": wanted})
    out.print_data(found) if as_json else out.print(tables.preview(found))


@endpoints_app.command("show")
def endpoints_show(endpoint_id: EndpointId, as_json: AsJson = False, url: Url = None, api_key: Key = None) -> None:
    """Print an endpoint: its state, and how many deliveries are held for it."""
    with client_for(url, api_key) as client:
        found = client.call("GET", f"endpoints/{endpoint_id}")
    out.print_data(found) if as_json else out.print(tables.endpoint(found))


@endpoints_app.command("pause")
def endpoints_pause(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Pause an endpoint, for example during maintenance. Its deliveries are held until you resume it."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"active": False}})
    _require_stopped(found)
    out.print(f"Endpoint {found['id']} is paused. Its deliveries are held until you resume it.")


@endpoints_app.command("disable")
def endpoints_disable(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Disable an endpoint, as the pipeline does when one fails for days. Its deliveries are held until you resume it."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"disabled": True}})
    _require_stopped(found)
    out.print(f"Endpoint {found['id']} is disabled. Its deliveries are held until you resume it.")


def _require_stopped(endpoint: Mapping[str, Any]) -> None:
    """Raises ApiCallError if the endpoint is still active, as with the API of an earlier release."""
    if endpoint["active"]:
        raise ApiCallError(f"Endpoint {endpoint['id']} is still active: the API did not change it.")


@endpoints_app.command("resume")
def endpoints_resume(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Resume a paused or disabled endpoint. Its held deliveries are sent."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"active": True}})
    out.print(f"Endpoint {endpoint_id} is active. Held deliveries that are now being sent: {found['held_count']:,}.")


@endpoints_app.command("retry-policy")
def endpoints_retry_policy(
    endpoint_id: EndpointId,
    policy: Annotated[str, typer.Argument(help=RETRY_POLICY)],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Set the retry policy of an endpoint, and print what it means. Retries that are already scheduled keep their times."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"retry_policy": policy}})
    out.print(f"Endpoint {endpoint_id}: {found['retry_words']}", markup=False, highlight=False)


@endpoints_app.command("verification")
def endpoints_verification(
    endpoint_id: EndpointId,
    verification: Annotated[Verification, typer.Argument(help="How to verify the endpoint. none: no verification.")],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Set whether an endpoint must be verified before it receives events. The verification starts immediately."""
    with client_for(url, api_key) as client:
        wanted = {"endpoint": {"verification": verification.value}}
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json=wanted)
    if verification is Verification.NONE:
        out.print(f"Endpoint {found['id']} does not need verification.")
    else:
        _print_verified(found)


@endpoints_app.command("verify")
def endpoints_verify(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Verify an endpoint. The exit code is 1 if that fails. Deliveries are held until the endpoint is verified."""
    said = "Set verification to cloudevents_handshake or signed_event first."
    first = f"Run this first: oms-webhooks endpoints verification {endpoint_id} signed_event (or cloudevents_handshake)"
    with client_for(url, api_key) as client, advice_for_commands(said, first):
        _print_verified(client.call("POST", f"endpoints/{endpoint_id}/verify"))


def _print_verified(endpoint: Mapping[str, Any]) -> None:
    if endpoint["verified_at"]:
        out.print(f"Endpoint {endpoint['id']} is verified.")
        return
    out.print(f"Endpoint {endpoint['id']} is not verified. {endpoint['verification_problem']}", markup=False, highlight=False)
    raise typer.Exit(1)


@endpoints_app.command("ordered")
def endpoints_ordered(
    endpoint_id: EndpointId,
    on: Annotated[
        bool | None, typer.Option("--on/--off", help="Send the events of a key in order, one at a time, or in any order.")
    ] = None,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Set whether an endpoint receives the events of a key (such as one order) in order, one at a time."""
    if on is None:
        raise typer.BadParameter("Use --on or --off.")
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"ordered": on}})
    description = (
        "one at a time, in order, from the next event on"
        if found["ordered"]
        else "in any order; deliveries that are already waiting are still sent in order"
    )
    out.print(f"Endpoint {endpoint_id} receives the events of a key {description}.")


@endpoints_app.command("pin")
def endpoints_pin(
    endpoint_id: EndpointId,
    pins: Annotated[
        list[str] | None,
        typer.Argument(
            help="Event types pinned to one version, such as refund_issued=1.",
            callback=not_blank,
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove all pins: the endpoint receives every version of its event types.")
    ] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Pin event types of an endpoint to one version, instead of those that were pinned before, or remove the pins."""
    if remove is bool(pins):
        # Without any, a shell variable may be empty: that removed all pins.
        raise typer.BadParameter("Use pins such as refund_issued=1, or --remove.")
    wanted = {"event_type_versions": _pins(pins or ())}
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": wanted})["event_type_versions"]
    description = (
        ", ".join(f"{name} in version {version} only" for name, version in found.items()) or "all versions of its event types"
    )
    out.print(f"Endpoint {endpoint_id} receives {description}.")


@endpoints_app.command("drop-held")
def endpoints_drop_held(
    endpoint_id: EndpointId,
    count: Annotated[
        int, typer.Option(min=1, help="How many deliveries are held. If the number has changed, nothing is dropped.")
    ],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Drop the held deliveries of a paused or disabled endpoint. They are never sent, and are recorded as discarded."""
    again = "Use --count with the current number."
    with client_for(url, api_key) as client, advice_for_commands("Send the current number.", again):
        dropped = client.call("POST", f"endpoints/{endpoint_id}/held/drop", json={"count": count})["dropped"]
    out.print(f"Dropped deliveries: {dropped:,}.")


@endpoints_app.command("remove")
def endpoints_remove(endpoint_id: EndpointId, yes: Yes = False, url: Url = None, api_key: Key = None) -> None:
    """Delete an endpoint. Deliveries that are held for it are discarded. Asks for confirmation."""
    with client_for(url, api_key) as client:
        found = client.call("GET", f"endpoints/{endpoint_id}")
        held = found.get("held_count", 0)
        lost = f" Held deliveries that are discarded: {held:,}." if held else ""
        if not confirmed(visible(f"Delete endpoint {endpoint_id}, {found['target_url']}?{lost}").plain, yes=yes):
            out.print("Nothing was deleted.")
            return
        client.call("DELETE", f"endpoints/{endpoint_id}")
    out.print(f"Endpoint {endpoint_id}, {found['target_url']}, is deleted.{lost}", markup=False, highlight=False, soft_wrap=True)


@endpoints_app.command("test")
def endpoints_test(
    endpoint_id: EndpointId,
    event: Annotated[
        str | None,
        typer.Option(
            help="Event type to send. Default: the endpoint's first event type.",
            callback=not_blank,
            autocompletion=complete_event_type,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Send a sample event to an endpoint, and print its response. The exit code is 1 if the endpoint did not acknowledge."""
    wanted = {"test": {"event_name": event}} if event else {"test": {}}
    with client_for(url, api_key) as client:
        attempt = client.call("POST", f"endpoints/{endpoint_id}/test", json=wanted)["attempt"]
    out.print_data(attempt) if as_json else out.print(tables.tested(attempt))
    raise typer.Exit(0 if attempt["state"] == "succeeded" else 1)
