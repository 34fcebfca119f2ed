"""``oms-webhooks endpoints rotate``, ``rotate-key-pair``, ``sign`` and ``certificate``: how an endpoint's requests are signed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers.cli import tables
from consumers.cli.api_client import Key, Url, advice_for_commands, client_for
from consumers.cli.authentication_options import SignatureHeaderOptions
from consumers.cli.console import Output
from consumers.cli.endpoints import EndpointId
from consumers.cli.option_groups import grouped

out = Output()


Overlap = Annotated[int, typer.Option(min=0, max=168, help="For how many hours the old one stays valid.")]


def endpoints_rotate(endpoint_id: EndpointId, overlap_hours: Overlap = 24, url: Url = None, api_key: Key = None) -> None:
    """Rotate the signing secret of an endpoint, and print the new one once. The old one stays valid for 24 hours, or for --overlap-hours."""
    with client_for(url, api_key) as client:
        wanted = {"rotation": {"overlap_hours": overlap_hours}}
        rotated = client.call("POST", f"endpoints/{endpoint_id}/rotate_secret", json=wanted)
    out.print(tables.rotated(rotated, overlap_hours))


def endpoints_rotate_key_pair(endpoint_id: EndpointId, overlap_hours: Overlap = 24, url: Url = None, api_key: Key = None) -> None:
    """Rotate the key pair of an endpoint for v1a signatures, and print its public keys."""
    first = f"Run this first: oms-webhooks endpoints sign {endpoint_id} --v1a"
    with client_for(url, api_key) as client, advice_for_commands('Set signature_versions to ["v1", "v1a"] first.', first):
        wanted = {"rotation": {"overlap_hours": overlap_hours}}
        rotated = client.call("POST", f"endpoints/{endpoint_id}/rotate_key_pair", json=wanted)
    _print_public_keys(rotated)


@grouped
def endpoints_sign(
    endpoint_id: EndpointId,
    *,
    v1a: Annotated[bool | None, typer.Option("--v1a/--no-v1a", help="Also sign with Ed25519 (v1a).")] = None,
    signatures: SignatureHeaderOptions,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Set how an endpoint's requests are signed, in addition to the signature with its secret."""
    wanted: dict[str, object] = signatures.asked()
    if v1a is not None:
        wanted["signature_versions"] = ["v1", "v1a"] if v1a else ["v1"]
    if not wanted:
        raise typer.BadParameter("Use --v1a or --no-v1a, --header or --no-header.")
    with client_for(url, api_key) as client:
        _print_public_keys(client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": wanted}))


def endpoints_certificate(
    endpoint_id: EndpointId,
    certificate: Annotated[Path | None, typer.Option(help="PEM file: the certificate, followed by its CA certificates.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file: the private key, without a passphrase.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the certificate.")] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Set or remove the client certificate of an endpoint, for mutual TLS."""
    if remove is (certificate is not None and key is not None) or (certificate is None) is not (key is None):
        raise typer.BadParameter("Use --certificate and --key, or --remove.")
    try:
        given = (
            None
            if certificate is None or key is None
            else {"certificate": certificate.read_text(), "private_key": key.read_text()}
        )
    except (OSError, UnicodeDecodeError) as error:
        why = f"{error.filename} cannot be read: {error.strerror}" if isinstance(error, OSError) else "A file is not text"
        raise typer.BadParameter(f"{why}.") from None
    with client_for(url, api_key) as client:
        changed = client.call("PATCH", f"endpoints/{endpoint_id}", json={"endpoint": {"client_certificate": given}})
    shown = changed["client_certificate"]
    description = f"presents {shown['subject']}, valid until {shown['expires_at']}" if shown else "presents no client certificate"
    out.print(f"To endpoint {endpoint_id}, OMS webhooks {description}.", markup=False, highlight=False, soft_wrap=True)


def _print_public_keys(endpoint: Mapping[str, Any]) -> None:
    for key in endpoint["public_keys"]:
        until = f" until {key['expires_at']}" if key["expires_at"] else ""
        out.print(f"{key['key']}{until}", markup=False, highlight=False, soft_wrap=True)
    versions, header = ", ".join(endpoint["signature_versions"]), endpoint["signature_header"]
    beside = f"; second header: {header['name']} ({header['encoding']})" if header else ""
    out.print(f"Endpoint {endpoint['id']} is signed with {versions}{beside}.", markup=False, highlight=False, soft_wrap=True)
