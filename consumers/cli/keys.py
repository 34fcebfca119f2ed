"""``oms-webhooks keys``: commands that call the HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from consumers.cli import tables
from consumers.cli.api_client import Key, Url, client_for
from consumers.cli.confirmation import Yes, confirmed
from consumers.cli.console import Output, visible
from consumers.cli.endpoints import AsJson
from consumers.cli.option_values import key_id as read_key_id
from consumers.cli.option_values import not_blank
from schemas.api_key import Access

out = Output()

keys_app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys (through the HTTP API, with an admin key).")


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="What the key is for.", callback=not_blank)],
    role: Annotated[
        Access, typer.Option(help="viewer: read only. operator: also see bodies, resend and test. admin: everything.")
    ],
    owner: Annotated[
        str | None,
        typer.Option(help="The person responsible for the key. Shown in the audit log and the dashboard.", callback=not_blank),
    ] = None,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Create an API key, and print it. The key is shown only once."""
    with client_for(url, api_key) as client:
        made = client.call("POST", "keys", json={"key": {"name": name, "role": role.value} | ({"owner": owner} if owner else {})})
    out.print(tables.created_key(made))


@keys_app.command("list")
def keys_list(as_json: AsJson = False, url: Url = None, api_key: Key = None) -> None:
    """List the valid API keys."""
    with client_for(url, api_key) as client:
        found = client.call("GET", "keys")
    out.print_data(found) if as_json else out.print(tables.keys(found))


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id.", callback=read_key_id)],
    yes: Yes = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Revoke an API key. It stops working immediately. Asks for confirmation."""
    with client_for(url, api_key) as client:
        known = next((key for key in client.call("GET", "keys")["keys"] if key["id"] == key_id), None)
        if known is not None and not confirmed(visible(f"Revoke {_described(known)}?").plain, yes=yes):
            out.print("Nothing was revoked.")
            return
        client.call("DELETE", f"keys/{key_id}")
    out.print(f"Key {key_id} is revoked.", markup=False, highlight=False)


def _described(key: Mapping[str, Any]) -> str:
    owner = f", owner {key['owner']}" if key.get("owner") else ""
    return f"key {key['id']}, {key['name']}, role {key['role']}{owner}"
