"""``oms-webhooks endpoints``: commands that speak to the HTTP API. Those about signatures are in `consumers.cli.signatures`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from consumers.cli import tables
from consumers.cli.api_client import ApiCallError, ApiClient, Key, Url, client_for
from consumers.cli.authentication_options import AuthenticationOptions, NewAuthenticationOptions
from consumers.cli.console import Output
from consumers.cli.known_event_types import listed
from consumers.cli.option_groups import grouped
from consumers.cli.option_values import complete_event_type, id_number, not_blank
from schemas.event_type_versions import pins_of
from schemas.verification import Verification

endpoints_app = typer.Typer(no_args_is_help=True, help="Endpoints of the running pipeline (by its HTTP API).")

out = Output()

RETRY_POLICY = "standard, patient, impatient, or one to five delays that there are topics for, such as 5s,1m,10m."

EndpointId = Annotated[int, typer.Argument(help="The endpoint's id.", parser=id_number)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]


@dataclass(frozen=True)
class SubscriptionOptions:
    """What an endpoint receives."""

    event: Annotated[
        list[str] | None,
        typer.Option(
            help="An event type to subscribe to; repeat it. Default: all that the pipeline has now.",
            callback=not_blank,
            autocompletion=complete_event_type,
        ),
    ] = None
    filter_: Annotated[list[str] | None, typer.Option("--filter", help="A filter (CEL); repeat it: all must hold.")] = None

    pin: Annotated[
        list[str] | None,
        typer.Option(
            help="An event type and the only version of it that is sent: refund_issued=1; repeat it.", callback=not_blank
        ),
    ] = None

    def fields(self, client: ApiClient) -> dict[str, object]:
        """The fields of the endpoint. Where no event type was named it has all those of the pipeline, which is asked for them."""
        wanted: dict[str, object] = {"events": self.event or list(listed(client).by_name)}
        if self.filter_:
            wanted["filters"] = self.filter_
        if self.pin:
            wanted["event_type_versions"] = pins_of(",".join(self.pin))
        return wanted


@dataclass(frozen=True)
class NewEndpointOptions(NewAuthenticationOptions):
    """What a new endpoint may have."""

    retry_policy: Annotated[str | None, typer.Option(help=RETRY_POLICY, callback=not_blank)] = None
    verification: Annotated[
        Verification | None, typer.Option(help="Whether it must be verified before it gets anything, and how. Default: none.")
    ] = None
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Send events with one key (an order) one after the other, in order.")
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
def endpoints_list(url: Url = None, api_key: Key = None) -> None:
    """List the endpoints."""
    found: list[Mapping[str, Any]] = []
    number, pages = 1, 1
    with client_for(url, api_key) as client:
        while number <= pages:
            page = client.call("GET", "endpoints", params=[("page", str(number)), ("per_page", "200")])
            found += page["endpoints"]
            number, pages = number + 1, page["pages"]
    out.print(tables.endpoints(found))


@endpoints_app.command("add")
@grouped
def endpoints_add(
    target_url: Annotated[str, typer.Argument(help="Where webhooks are POSTed to.")],
    *,
    subscription: SubscriptionOptions,
    options: NewEndpointOptions,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Register an endpoint; prints its signing secret, once."""
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
    """Set how an endpoint's requests authenticate (--auth none: by their signature alone)."""
    if (asked := authentication.asked()) is None:
        raise typer.BadParameter(
            "--auth says how requests authenticate: none, bearer, basic, api_key or oauth2_client_credentials."
        )
    with client_for(url, api_key) as client:
        changed = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"authentication": asked}})
    out.print(f"Endpoint {endpoint_id} authenticates by: {changed['authentication']['type']}.")


@endpoints_app.command("preview")
@grouped
def endpoints_preview(
    *,
    subscription: SubscriptionOptions,
    days: Annotated[int, typer.Option(min=1, max=7, help="How many days back.")] = 7,
    as_json: AsJson = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Say what an endpoint with these events and filters would have received. Nothing is registered, nothing is sent."""
    with client_for(url, api_key) as client:
        wanted = {**subscription.fields(client), "days": days}
        found = client.call("POST", "endpoints/preview", json={"preview": wanted})
    out.print_json(data=found) if as_json else out.print(tables.preview(found))


@endpoints_app.command("show")
def endpoints_show(endpoint_id: EndpointId, as_json: AsJson = False, url: Url = None, api_key: Key = None) -> None:
    """Print an endpoint: its state, and how many deliveries are held for it while it is paused or disabled."""
    with client_for(url, api_key) as client:
        found = client.call("GET", f"endpoints/{endpoint_id}")
    out.print_json(data=found) if as_json else out.print(tables.endpoint(found))


@endpoints_app.command("pause")
def endpoints_pause(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Pause an endpoint: what is due for it is held until it is resumed."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"active": False}})
    _require_stopped(found)
    out.print(f"Endpoint {found['id']} is paused. What is due for it is held, and goes out when you resume it.")


@endpoints_app.command("disable")
def endpoints_disable(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Take an endpoint out of use: what is due for it is held until it is resumed, and lists show it as disabled."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"disabled": True}})
    _require_stopped(found)
    out.print(f"Endpoint {found['id']} is disabled. What is due for it is held, and goes out when you resume it.")


def _require_stopped(endpoint: Mapping[str, Any]) -> None:
    """Raises ApiCallError: it is active all the same, as with an API of an earlier release."""
    if endpoint["active"]:
        raise ApiCallError(f"Endpoint {endpoint['id']} is still active: the API did not do it.")


@endpoints_app.command("resume")
def endpoints_resume(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Resume an endpoint that was paused or disabled: what was held goes out."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"active": True}})
    out.print(f"Endpoint {endpoint_id} is active. Held deliveries that go out: {found['held_count']:,}.")


@endpoints_app.command("retry-policy")
def endpoints_retry_policy(
    endpoint_id: EndpointId,
    policy: Annotated[str, typer.Argument(help=RETRY_POLICY)],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Give an endpoint another retry policy; prints what it means. What waits already is sent when it was due."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"retry_policy": policy}})
    out.print(f"Endpoint {endpoint_id}: {found['retry_words']}", markup=False, highlight=False)


@endpoints_app.command("verification")
def endpoints_verification(
    endpoint_id: EndpointId,
    verification: Annotated[Verification, typer.Argument(help="How it is verified; none: it need not be.")],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Set whether an endpoint must be verified before anything is delivered to it. It is asked at once."""
    with client_for(url, api_key) as client:
        wanted = {"endpoint": {"verification": verification.value}}
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json=wanted)
    if verification is Verification.NONE:
        out.print(f"Endpoint {found['id']} need not be verified.")
    else:
        _print_verified(found)


@endpoints_app.command("verify")
def endpoints_verify(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Ask an endpoint whether it wants webhooks; exit code 1 when it is not verified. What is due for it is held until it is."""
    with client_for(url, api_key) as client:
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
    on: Annotated[bool, typer.Option("--on/--off", help="Events with one key one after the other, or in any order.")] = True,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Send events with one key (an order) to an endpoint one after the other, in order; or stop that."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"ordered": on}})
    told = "one after the other, from the next one on" if found["ordered"] else "in any order; what waits is still sent in order"
    out.print(f"Endpoint {endpoint_id} gets the events of a key {told}.")


@endpoints_app.command("pin")
def endpoints_pin(
    endpoint_id: EndpointId,
    pins: Annotated[
        list[str] | None,
        typer.Argument(
            help="Event types with the only version of each that is sent: refund_issued=1. None: all versions.",
            callback=not_blank,
        ),
    ] = None,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Pin the versions of event types that an endpoint gets, or send it every version again."""
    wanted = {"event_type_versions": pins_of(",".join(pins or ()))}
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": wanted})["event_type_versions"]
    told = ", ".join(f"{name} in version {version} only" for name, version in found.items()) or "every version of its event types"
    out.print(f"Endpoint {endpoint_id} gets {told}.")


@endpoints_app.command("drop-held")
def endpoints_drop_held(
    endpoint_id: EndpointId,
    count: Annotated[int, typer.Option(min=1, help="How many are held. When it is another number by now, nothing is dropped.")],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Drop what is held for a paused or disabled endpoint: it is not sent, then or later, and ends on record as discarded."""
    with client_for(url, api_key) as client:
        dropped = client.call("POST", f"endpoints/{endpoint_id}/held/drop", json={"count": count})["dropped"]
    out.print(f"Held deliveries that are dropped: {dropped:,}.")


@endpoints_app.command("remove")
def endpoints_remove(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Delete an endpoint."""
    with client_for(url, api_key) as client:
        client.call("DELETE", f"endpoints/{endpoint_id}")
    out.print(f"Endpoint {endpoint_id} is deleted.")


@endpoints_app.command("test")
def endpoints_test(
    endpoint_id: EndpointId,
    event: Annotated[
        str | None,
        typer.Option(
            help="What is sent; default: the endpoint's first event type.",
            callback=not_blank,
            autocompletion=complete_event_type,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Send a sample event to an endpoint now, and print what it answered; exit code 1 when it did not acknowledge."""
    wanted = {"test": {"event_name": event}} if event else {"test": {}}
    with client_for(url, api_key) as client:
        attempt = client.call("POST", f"endpoints/{endpoint_id}/test", json=wanted)["attempt"]
    out.print_json(data=attempt) if as_json else out.print(tables.tested(attempt))
    raise typer.Exit(0 if attempt["state"] == "succeeded" else 1)
