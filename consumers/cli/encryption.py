"""``oms-webhooks endpoints reencrypt``: encrypt the endpoints' secrets with the first encryption key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from consumers.cli.api_client import Key, Url, client_for
from pipeline.core.counted import counted

out = Console()
err = Console(stderr=True)


def reencrypt(
    status: Annotated[bool, typer.Option("--status", help="Only print how many remain.")] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Encrypt the secrets of all endpoints with the first key of OMS_WEBHOOKS_ENCRYPTION_KEY (needs an admin key).

    First give all roles the new and the old key, comma-separated: see docs/operations.md. If a run is interrupted, start it again; it
    continues where it stopped. The exit code is 1 while an old key is still needed.
    """
    with client_for(url, api_key) as client, Progress(console=err, transient=True) as progress:
        state = client.call("GET", "encryption")
        task = progress.add_task("encrypting endpoints", total=state["remaining"])
        while state["remaining"] and not status:
            state = client.call("POST", "encryption")
            progress.advance(task, state["reencrypted"])
    out.print(_sentence(state), highlight=False, soft_wrap=True)
    raise typer.Exit(1 if state["remaining"] or state["unusable"] else 0)


def _sentence(state: Mapping[str, Any]) -> str:
    keys = "the only key that the API has" if state["keys"] == 1 else f"any of the {state['keys']} keys"
    endpoints = counted(state["endpoints"], "endpoint")
    everything = "The only endpoint is" if state["endpoints"] == 1 else f"All {endpoints} are"
    if not state["endpoints"]:
        return "There are no endpoints, so there is nothing to encrypt."
    if state["unusable"]:
        return (
            f"Cannot be opened with {keys}: {state['unusable']:,} of {endpoints}; encrypted with an old one: {state['remaining']:,}. "
            "Add the missing keys to all roles."
        )
    if state["remaining"]:
        return f"Encrypted with an old key: {state['remaining']:,} of {endpoints}. Run this without --status."
    if state["keys"] == 1:
        return f"{everything} encrypted with the only key that the API has."
    return f"{everything} encrypted with the first key. You can remove the other keys from all roles."
