"""``oms-webhooks endpoints reencrypt``: encrypt the endpoints' secrets with the first of the encryption keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from consumers.cli.api_client import Key, Url, client_for

out = Console()


def reencrypt(
    status: Annotated[bool, typer.Option("--status", help="Only say how many remain.")] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Encrypt every endpoint's secrets with the first key of OMS_WEBHOOKS_ENCRYPTION_KEY (an admin key is needed).

    Give all roles the old and the new key first, comma-separated: see docs/operations.md. A run that broke off goes on when it is
    started again. Exit code 1 while an old key is still needed.
    """
    with client_for(url, api_key) as client, Progress(console=out, transient=True) as progress:
        state = client.call("GET", "encryption")
        task = progress.add_task("sealing endpoints", total=state["remaining"])
        while state["remaining"] and not status:
            state = client.call("POST", "encryption")
            progress.advance(task, state["reencrypted"])
    out.print(_sentence(state), highlight=False, soft_wrap=True)
    raise typer.Exit(1 if state["remaining"] or state["unusable"] else 0)


def _sentence(state: Mapping[str, Any]) -> str:
    if state["unusable"]:
        return (
            f"{state['unusable']} of {state['endpoints']} endpoints cannot be opened with any of the {state['keys']} keys, {state['remaining']} "
            "are encrypted with an old one. Give all roles the key that they were encrypted with too."
        )
    if state["remaining"]:
        return f"{state['remaining']} of {state['endpoints']} endpoints are encrypted with an old key. Run this without --status."
    if state["keys"] == 1:
        return f"All {state['endpoints']} endpoints are encrypted with the one key that the API has."
    return f"All {state['endpoints']} endpoints are encrypted with the first key: the others can be taken out of every role."
