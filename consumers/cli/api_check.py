"""Checks for ``oms-webhooks doctor`` what a command needs to call the API: its URL, the key, the key's role and the release."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

from consumers.cli.api_client import ApiCallError, ApiClient, ForeignAnswerError, WrongOptionError, api_client, checked_url
from consumers.cli.discovery import API_KEY, API_URL
from consumers.cli.runtime_files import RunNote
from pipeline.ops.reachability import CheckResult
from schemas.api_key import Access

_SECONDS: Final = 10.0
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_UNPROCESSABLE: Final = 422


def api_findings(url: str | None, api_key: str | None, note: RunNote | None) -> Iterator[CheckResult]:
    """What is wrong with the API at ``url``, or with that of a pipeline on this machine, and the key's role. Most important first.

    Nothing contains the key.
    """
    if not url and note is None:
        if api_key:
            yield CheckResult(API_URL, f"It is not set, and no pipeline is running on this machine, so {API_KEY} has no effect.")
        return
    where = API_URL if url or note is None else f"The pipeline at {note.url}"
    key = API_KEY if api_key or note is None else where
    if url:
        try:
            checked_url(url)
        except WrongOptionError as error:
            yield CheckResult(where, str(error))
            return
    try:
        with api_client(url, api_key, note) as client:
            yield from _findings(client, where, key)
    except ApiCallError as error:  # there is no key, or it is malformed
        yield CheckResult(key, str(error))


def _findings(client: ApiClient, where: str, key: str) -> Iterator[CheckResult]:
    try:
        role = _role(client)
    except ApiCallError as error:
        yield CheckResult(key if error.status == _UNAUTHORIZED else where, str(error))
        return
    yield CheckResult(f"The API at {client.root}: the key has the {role.value} role")
    ours, theirs = version("oms-webhooks"), _release(client)
    if theirs not in ("", ours):
        yield CheckResult(
            where, f"{client.root} is release {theirs}, and this command is release {ours}. Use the same release on both sides."
        )


def _role(client: ApiClient) -> Access:
    """The role of the key, found by what it may do.

    Raises:
        ApiCallError: the API does not answer, or refuses the key.
    """
    try:
        client.call("GET", "keys", seconds=_SECONDS)["keys"]
    except ApiCallError as error:
        if error.status != _FORBIDDEN or isinstance(error, ForeignAnswerError):
            raise
    else:
        return Access.ADMIN
    try:
        client.call("GET", "resends/preview", seconds=_SECONDS)  # without a filter, nothing is searched for
    except ApiCallError as error:
        if error.status not in (_FORBIDDEN, _UNPROCESSABLE) or isinstance(error, ForeignAnswerError):
            raise
        return Access.VIEWER if error.status == _FORBIDDEN else Access.OPERATOR
    return Access.OPERATOR


def _release(client: ApiClient) -> str:
    """The release of the API. Empty if it does not tell."""
    try:
        return str(client.call("GET", "openapi.json", seconds=_SECONDS)["info"]["version"])
    except (ApiCallError, TypeError):
        return ""
