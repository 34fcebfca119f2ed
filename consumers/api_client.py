"""The CLI's client of our own HTTP API."""

from __future__ import annotations

import os
from typing import Annotated, Any, Final

import httpx
import typer

from consumers.whom import API_PATH, API_URL, local_pipeline, root_of, say

Url = Annotated[
    str | None, typer.Option(envvar="OMS_WEBHOOKS_API_URL", help="Where the API is; default: the pipeline on this machine.")
]
Key = Annotated[
    str | None, typer.Option(envvar="OMS_WEBHOOKS_API_KEY", help="API key; default: that of the pipeline on this machine.")
]


_ANSWER_SECONDS: Final = 30.0


class ApiError(Exception):
    """The API did not do what was asked; ``str(error)`` says why and what to do. ``status`` is 0 when it did not answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ApiClient:
    """Speaks to ``/api/webhook``. One instance a command.

    Raises:
        ApiError: the URL is none, or the key cannot be one.
    """

    def __init__(self, url: str, api_key: str) -> None:
        if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            # Checked here: in httpx's errors it would be printed.
            message = (
                "The API key has characters that no key has: a space, a line break, or what is not ASCII, such as the … of an example. "
                "Copy it again (--api-key or OMS_WEBHOOKS_API_KEY)."
            )
            raise ApiError(message)
        try:
            self._client = httpx.Client(
                base_url=f"{root_of(url)}{API_PATH}/",
                headers={"Authorization": f"Bearer {api_key}"},
                trust_env=False,
            )
        except httpx.InvalidURL as error:
            raise ApiError(f"{url} is no URL ({error}); write one such as http://127.0.0.1:8080.") from error

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: list[tuple[str, str]] | None = None,
        json: object = None,
        seconds: float = _ANSWER_SECONDS,
    ) -> Any:
        """Call a route and return its JSON (None when there is none), which may take ``seconds``.

        Raises:
            ApiError: no answer, one that is not 2xx, or one that is not of our API.
        """
        response = self._answer(method, path, params, json, seconds)
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        try:
            return response.json()
        except ValueError:
            kind = response.headers.get("Content-Type", "something without a type")
            message = f"This is not the API of OMS webhooks: {self._client.base_url} answered {response.status_code} with {kind}."
            raise ApiError(message) from None

    def text(self, path: str, *, seconds: float = _ANSWER_SECONDS) -> str:
        """What a GET route answers, as text.

        Raises:
            ApiError: no answer, or one that is not 2xx.
        """
        return self._answer("GET", path, None, None, seconds).text

    def _answer(
        self, method: str, path: str, params: list[tuple[str, str]] | None, json: object, seconds: float
    ) -> httpx.Response:
        try:
            response = self._client.request(method, path, params=[*(params or [])], json=json, timeout=seconds)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"The API at {self._client.base_url} does not answer ({error}); is it running? Start it: oms-webhooks all"
            raise ApiError(message) from error
        if not response.is_success:
            raise ApiError(_explained(response), response.status_code)
        return response


def client_for(url: str | None, api_key: str | None) -> ApiClient:
    """A client of the API that is named, or of a pipeline that runs on this machine. Says which one; only that one is sent its key.

    Raises:
        ApiError: none is named, and none runs here; or another one is named, without a key.
        NoPipelineError: several run here, and none is chosen.
    """
    note = local_pipeline(url)
    if not url and note is None:
        message = (
            "No running pipeline was found on this machine; start one (oms-webhooks all), or give --url and --api-key "
            "(OMS_WEBHOOKS_API_URL, OMS_WEBHOOKS_API_KEY)."
        )
        raise ApiError(message)
    key = api_key or (note.api_key if note is not None else "")
    if not key:
        raise ApiError(f"An API key is needed for {url}: give --api-key, or set OMS_WEBHOOKS_API_KEY.")
    client = ApiClient(url or (note.url if note is not None else ""), key)
    by = f" ({API_URL})" if url and os.environ.get(API_URL) == url else ""
    say(f"Using {note}{by}." if note is not None else f"Using the API at {root_of(url or '')}{by}.")
    return client


def _explained(response: httpx.Response) -> str:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return f"The API answered {response.status_code}."
    fields = answer.get("errors") or {}
    details = "".join(f"\n  {field}: {'; '.join(messages)}" for field, messages in fields.items())
    return f"{answer.get('error', f'The API answered {response.status_code}.')}{details}"
