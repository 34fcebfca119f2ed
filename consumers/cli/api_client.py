"""The CLI's client of our own HTTP API."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import httpx
import typer

from consumers.cli.discovery import API_PATH, API_URL, local_pipeline, root_of, say

Url = Annotated[
    str | None, typer.Option(envvar="OMS_WEBHOOKS_API_URL", help="Where the API is; default: the pipeline on this machine.")
]
Key = Annotated[
    str | None, typer.Option(envvar="OMS_WEBHOOKS_API_KEY", help="API key; default: that of the pipeline on this machine.")
]


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """Which API a command asks, and with which key."""

    url: Url = None
    api_key: Key = None


_ANSWER_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 30.0
"""A stream says that it is there three times as often."""
_STREAM: Final = "text/event-stream"
_IN_DOUBT: Final = " What was asked may have been done all the same: look before you ask again."
_NO_TEXT: Final = "Something that was given is not text (UTF-8): nothing was asked."
_NUMBERED: Final = re.compile(r"\[Errno -?[0-9]+\] |\[SSL: [A-Z_]+\] | \(_ssl\.c:[0-9]+\)")
"""What stands around the words of an operating system or of OpenSSL."""


class ApiCallError(Exception):
    """The API did not do what was asked; ``str(error)`` says why and what to do. ``status`` is 0 when it did not answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class AnsweredObject(dict[str, Any]):
    """An object of an answer. A member that it lacks is told in words: the server need not be of this release, nor ours."""

    def __missing__(self, name: str) -> Any:
        """Raises ApiCallError."""
        raise ApiCallError(
            f"The answer has no {name}: what answers is another release of OMS webhooks than this command, or something else. "
            "Check --url, and use the same release on both sides."
        )


def checked_url(url: str) -> str:
    """The URL of an API, without blanks around it.

    Raises:
        ApiCallError: it is none, or holds a password. That is not printed.
    """
    text = url.strip()
    try:
        parts = urlsplit(text)
        has_login, is_url = parts.username is not None, parts.scheme in ("http", "https") and bool(parts.hostname)
        is_url = is_url and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        has_login, is_url = "@" in text, False
    if has_login:
        raise ApiCallError("The URL of the API must not hold a user name or a password; an API key is given with --api-key.")
    if not (is_url and text.isprintable() and " " not in text):
        raise ApiCallError(f"{text!r} is not a URL of the API; write one such as http://127.0.0.1:8080.")
    return text


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
            raise ApiCallError(message)
        root = root_of(checked_url(url))
        try:
            self._client = httpx.Client(
                base_url=f"{root}{API_PATH}/",
                headers={"Authorization": f"Bearer {api_key}"},
                trust_env=False,
            )
        except httpx.InvalidURL:
            raise ApiCallError(f"{root!r} is not a URL of the API; write one such as http://127.0.0.1:8080.") from None

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
        found = _document(response)
        # What is deleted has no answer: some other server must not be believed that it is gone.
        if method == "DELETE" or not isinstance(found, dict):
            raise ApiCallError(self._is_foreign(response))
        if ignored := found.get("ignored_fields"):
            say(
                f"The API ignored what it does not know: {', '.join(map(str, ignored))}. It is of another release than this command."
            )
        return found

    def events(self, path: str, params: list[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        """The server-sent events of a route: their names and their JSON. Ends when the server ends it.

        Raises:
            ApiError: no answer, one that is not 2xx, or a connection that broke.
        """
        headers = {"Accept": _STREAM}
        try:
            with self._client.stream("GET", path, params=[*params], headers=headers, timeout=_SILENCE_SECONDS) as response:
                if not response.is_success:
                    response.read()
                    raise ApiCallError(self._explained(response), response.status_code)
                if not response.headers.get("Content-Type", "").startswith(_STREAM):
                    raise ApiCallError(self._is_foreign(response), response.status_code)
                name, data = "", []
                for line in response.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        data.append(line.removeprefix("data: "))
                    elif not line and data:
                        yield name, json.loads("\n".join(data), object_hook=AnsweredObject)
                        name, data = "", []
        except httpx.HTTPError as error:
            raise ApiCallError(f"The API at {self._client.base_url} does not answer any more ({_in_words(error)}).") from error
        except UnicodeEncodeError:
            raise ApiCallError(_NO_TEXT) from None
        except json.JSONDecodeError:
            raise ApiCallError(f"The API at {self._client.base_url} sent something else than JSON.") from None

    def text(self, path: str, *, seconds: float = _ANSWER_SECONDS) -> str:
        """What a GET route answers, as text.

        Raises:
            ApiError: no answer, one that is not 2xx, or a page.
        """
        response = self._answer("GET", path, None, None, seconds)
        if "html" in response.headers.get("Content-Type", ""):
            raise ApiCallError(self._is_foreign(response))
        return response.text

    def _answer(
        self, method: str, path: str, params: list[tuple[str, str]] | None, json: object, seconds: float
    ) -> httpx.Response:
        if not all(part.strip(".") for part in path.split("/")):
            raise ApiCallError(f"{path!r} would lead to another place of the API; nothing was asked.")
        where, doubt = f"The API at {self._client.base_url}", "" if method == "GET" else _IN_DOUBT
        try:
            response = self._client.request(method, path, params=[*(params or [])], json=json, timeout=seconds)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            message = f"{where} does not answer ({_in_words(error)}); is it running? Start it: oms-webhooks all"
            raise ApiCallError(message) from error
        except UnicodeEncodeError:
            raise ApiCallError(_NO_TEXT) from None
        except httpx.TimeoutException as error:
            raise ApiCallError(f"{where} has not answered within {seconds:g} seconds.{doubt}") from error
        except httpx.HTTPError as error:
            raise ApiCallError(f"{where} broke off before it had answered ({_in_words(error)}).{doubt}") from error
        if not response.is_success:
            raise ApiCallError(self._explained(response), response.status_code)
        return response

    def _is_foreign(self, response: httpx.Response) -> str:
        kind = response.headers.get("Content-Type", "something without a type")
        return f"This is not the API of OMS webhooks: {self._client.base_url} answered {response.status_code} with {kind}."

    def _explained(self, response: httpx.Response) -> str:
        """What an answer that is none of 2xx says."""
        if response.has_redirect_location:
            place = response.headers["Location"].partition(API_PATH)[0]
            return f"{self._client.base_url} redirects to {place}; if that is the API, give it as --url."
        answer = _document(response)
        if answer is _NOTHING:
            return f"{self._is_foreign(response)} Check --url; a proxy before the API may have answered in its place."
        if not isinstance(answer, dict):
            return f"The API answered {response.status_code}."
        told, fields = answer.get("error"), answer.get("errors")
        return (told if isinstance(told, str) else f"The API answered {response.status_code}.") + _by_field(fields)


_NOTHING: Final = object()


def _document(response: httpx.Response) -> Any:
    """The JSON of an answer; ``_NOTHING`` of one that has none."""
    try:
        return response.json(object_hook=AnsweredObject)
    except (ValueError, RecursionError):
        return _NOTHING


def _by_field(fields: object) -> str:
    """What is wrong with which field, a line for each."""
    if not isinstance(fields, Mapping):
        return ""
    told = {name: found if isinstance(found, list) else [found] for name, found in fields.items()}
    return "".join(f"\n  {name}: {'; '.join(map(str, found))}" for name, found in told.items())


def _in_words(error: Exception) -> str:
    return _NUMBERED.sub("", str(error)) or "the connection broke"


def client_for(url: str | None, api_key: str | None) -> ApiClient:
    """A client of the API that is named, or of a pipeline that runs on this machine. Says which one; only that one is sent its key.

    Raises:
        ApiError: none is named, and none runs here; or another one is named, without a key.
        NoPipelineError: several run here, and none is chosen.
    """
    url = checked_url(url) if url else None
    note = local_pipeline(url)
    if not url and note is None:
        message = (
            "No running pipeline was found on this machine; start one (oms-webhooks all), or give --url and --api-key "
            "(OMS_WEBHOOKS_API_URL, OMS_WEBHOOKS_API_KEY)."
        )
        raise ApiCallError(message)
    key = api_key or (note.api_key if note is not None else "")
    if not key:
        raise ApiCallError(f"An API key is needed for {url}: give --api-key, or set OMS_WEBHOOKS_API_KEY.")
    client = ApiClient(url or (note.url if note is not None else ""), key)
    by = f" ({API_URL})" if url and os.environ.get(API_URL) == url else ""
    say(f"Using {note}{by}." if note is not None else f"Using the API at {root_of(url or '')}{by}.")
    return client
