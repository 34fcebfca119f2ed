"""``oms-webhooks endpoints``, ``dead-letters`` and ``keys``: commands that speak to the HTTP API (attempts: cli_search)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from consumers import show
from consumers.api_client import Key, Url, client_for
from consumers.cli_values import not_blank
from consumers.printing import Output
from schemas.api_key import Access
from schemas.delivery import DeadLetterReason
from schemas.event import EventType

endpoints_app = typer.Typer(no_args_is_help=True, help="Endpoints of the running pipeline (by its HTTP API).")
dead_letters_app = typer.Typer(no_args_is_help=True, help="Records that could not be used (by the HTTP API).")
keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys (by the HTTP API, with an admin key).")

out = Output()

EndpointId = Annotated[int, typer.Argument(help="The endpoint's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]


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
    out.print(show.endpoints(found))


@endpoints_app.command("add")
def endpoints_add(
    target_url: Annotated[str, typer.Argument(help="Where webhooks are POSTed to.")],
    event: Annotated[list[EventType] | None, typer.Option(help="An event type to subscribe to; repeat it. Default: all.")] = None,
    token: Annotated[
        str | None,
        typer.Option(help="Sent as Authorization: Bearer.", envvar="OMS_WEBHOOKS_ENDPOINT_TOKEN", callback=not_blank),
    ] = None,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Register an endpoint; prints its signing secret, once."""
    wanted: dict[str, object] = {"target_url": target_url, "events": [each.value for each in event or EventType]}
    if token:
        wanted["token"] = token
    with client_for(url, api_key) as client:
        created = client.call("POST", "endpoints", json={"endpoint": wanted})
    out.print(show.created(created))


@endpoints_app.command("show")
def endpoints_show(endpoint_id: EndpointId, as_json: AsJson = False, url: Url = None, api_key: Key = None) -> None:
    """Print an endpoint: its state, and how many deliveries are held for it while it is paused or disabled."""
    with client_for(url, api_key) as client:
        found = client.call("GET", f"endpoints/{endpoint_id}")
    out.print_json(data=found) if as_json else out.print(show.endpoint(found))


@endpoints_app.command("pause")
def endpoints_pause(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Pause an endpoint: what is due for it is held until it is resumed."""
    with client_for(url, api_key) as client:
        client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"active": False}})
    out.print(f"Endpoint {endpoint_id} is paused. What is due for it is held, and goes out when you resume it.")


@endpoints_app.command("resume")
def endpoints_resume(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Resume an endpoint that was paused or disabled: what was held goes out."""
    with client_for(url, api_key) as client:
        found = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"active": True}})
    out.print(f"Endpoint {endpoint_id} is active. Held deliveries that go out: {found['held_count']:,}.")


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
def endpoints_remove(
    endpoint_id: Annotated[int, typer.Argument(help="The endpoint's id.")], url: Url = None, api_key: Key = None
) -> None:
    """Delete an endpoint."""
    with client_for(url, api_key) as client:
        client.call("DELETE", f"endpoints/{endpoint_id}")
    out.print(f"Endpoint {endpoint_id} is deleted.")


@endpoints_app.command("test")
def endpoints_test(
    endpoint_id: EndpointId,
    event: Annotated[EventType | None, typer.Option(help="What is sent; default: the endpoint's first event type.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Send a sample event to an endpoint now, and print what it answered; exit code 1 when it did not acknowledge."""
    wanted = {"test": {"event_name": event.value}} if event else {"test": {}}
    with client_for(url, api_key) as client:
        attempt = client.call("POST", f"endpoints/{endpoint_id}/test", json=wanted)["attempt"]
    out.print_json(data=attempt) if as_json else out.print(show.tested(attempt))
    raise typer.Exit(0 if attempt["state"] == "succeeded" else 1)


@endpoints_app.command("rotate")
def endpoints_rotate(endpoint_id: EndpointId, url: Url = None, api_key: Key = None) -> None:
    """Give an endpoint a new signing secret; prints it, once. The old one signs too, for 24 hours."""
    with client_for(url, api_key) as client:
        rotated = client.call("POST", f"endpoints/{endpoint_id}/rotate_secret")
    out.print(show.rotated(rotated))


@dead_letters_app.command("list")
def dead_letters_list(
    reason: Annotated[DeadLetterReason | None, typer.Option(help="Only those of this reason.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only those of this topic.", callback=not_blank)] = None,
    page: Annotated[int, typer.Option(min=1, help="Page.")] = 1,
    as_json: AsJson = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """List the records that could not be used, the newest first."""
    filters = {"q[reason_eq]": reason.value if reason else None, "q[topic_eq]": topic, "page": str(page)}
    with client_for(url, api_key) as client:
        found = client.call("GET", "dead_letters", params=[(name, value) for name, value in filters.items() if value])
    out.print_json(data=found) if as_json else out.print(show.dead_letters(found))


@dead_letters_app.command("show")
def dead_letters_show(
    identifier: Annotated[int, typer.Argument(metavar="ID", help="The dead letter's id.")], url: Url = None, api_key: Key = None
) -> None:
    """Print one with its bytes, as JSON; that they were looked at goes on record."""
    with client_for(url, api_key) as client:
        out.print_json(data=client.call("GET", f"dead_letters/{identifier}"))


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="Whose key it is.")],
    role: Annotated[
        Access, typer.Option(help="viewer looks; operator also sees bodies, resends and tests; admin may everything.")
    ],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Make an API key; prints it, once."""
    with client_for(url, api_key) as client:
        made = client.call("POST", "keys", json={"key": {"name": name, "role": role.value}})
    out.print(show.made_key(made))


@keys_app.command("list")
def keys_list(as_json: AsJson = False, url: Url = None, api_key: Key = None) -> None:
    """List the API keys that are valid."""
    with client_for(url, api_key) as client:
        found = client.call("GET", "keys")
    out.print_json(data=found) if as_json else out.print(show.keys(found))


@keys_app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(help="The key's id.")], url: Url = None, api_key: Key = None) -> None:
    """Revoke an API key: it opens nothing any more."""
    with client_for(url, api_key) as client:
        client.call("DELETE", f"keys/{key_id}")
    out.print(f"Key {key_id} is revoked.", markup=False, highlight=False)
