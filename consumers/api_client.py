"""The CLI's client of our own HTTP API."""

from __future__ import annotations

from typing import Annotated, Any, Final

import httpx
import typer

from consumers.embedded import find_note

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
    """Speaks to ``/api/webhook``. One instance a command."""

    def __init__(self, url: str, api_key: str) -> None:
        self._client = httpx.Client(
            base_url=url.rstrip("/") + "/api/webhook/",
            headers={"Authorization": f"Bearer {api_key}"},
            trust_env=False,
        )

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
            ApiError: no answer, or one that is not 2xx.
        """
        response = self._answer(method, path, params, json, seconds)
        return response.json() if response.content else None

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
        except httpx.HTTPError as error:
            message = f"The API at {self._client.base_url} does not answer ({error}); is it running? Start it: oms-webhooks all"
            raise ApiError(message) from error
        if not response.is_success:
            raise ApiError(_explained(response), response.status_code)
        return response


def client_for(url: str | None, api_key: str | None) -> ApiClient:
    """A client of the API that is named, or of the pipeline that runs on this machine.

    Raises:
        ApiError: none is named, and none runs here.
    """
    note = find_note()
    url, api_key = url or (note.url if note else None), api_key or (note.api_key if note else None)
    if not url or not api_key:
        message = "No running pipeline was found on this machine; start one (oms-webhooks all), or give --url and --api-key."
        raise ApiError(message)
    return ApiClient(url, api_key)


def _explained(response: httpx.Response) -> str:
    try:
        answer = response.json()
    except ValueError:
        return f"The API answered {response.status_code}."
    fields = answer.get("errors") or {}
    details = "".join(f"\n  {field}: {'; '.join(messages)}" for field, messages in fields.items())
    return f"{answer.get('error', f'The API answered {response.status_code}.')}{details}"
