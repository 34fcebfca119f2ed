"""The CLI's client of our own HTTP API."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import urlsplit

import httpx
import typer

from consumers.cli.discovery import API_KEY, API_PATH, API_URL, local_pipeline, print_notice, root_of
from consumers.cli.missing_objects import missing_object
from consumers.cli.option_values import not_blank
from consumers.cli.runtime_files import RunNote

Url = Annotated[
    str | None,
    typer.Option(
        envvar="OMS_WEBHOOKS_API_URL", help="URL of the API. Default: the pipeline on this machine.", callback=not_blank
    ),
]
Key = Annotated[
    str | None,
    typer.Option(envvar=API_KEY, help="API key. Default: the key of the pipeline on this machine.", callback=not_blank),
]


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """The API that a command calls, and the key."""

    url: Url = None
    api_key: Key = None


_ANSWER_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 30.0
"""Time without data after which a stream counts as broken. The server sends a heartbeat three times as often."""
_STREAM: Final = "text/event-stream"
_IN_DOUBT: Final = " The request may have been carried out anyway. Check before you repeat it."
_NO_TEXT: Final = "An argument is not valid UTF-8 text. Nothing was sent."
_NUMBERED: Final = re.compile(r"\[Errno -?[0-9]+\] |\[SSL: [A-Z_]+\] | \(_ssl\.c:[0-9]+\)")
"""The codes around error messages of the operating system and of OpenSSL."""
_FOR_PROGRAMS: Final = " Send it in the header Authorization: Bearer <API key>."
_SEVERAL: Final = "Several things are not accepted:"
_CLEAR: Final = frozenset({"q", "statement"})
"""Fields whose problems are clear without their names."""
_NO_TLS: Final = "wrong version number"
"""OpenSSL's words for an answer in plain HTTP."""


class ApiCallError(Exception):
    """A call to the API failed. ``str(error)`` says why and what to do::

        ApiCallError
         +-- ForeignAnswerError      the answer is not from our API
         +-- WrongOptionError        what was typed is wrong; nothing was sent
         +-- BackupError             a file is not a backup, or cannot be read or written

    ``status`` is that of the answer, or 0 if the API did not answer.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ForeignAnswerError(ApiCallError):
    """The answer is not from our API: a proxy in front of it responded, or the URL is that of another server."""


class WrongOptionError(ApiCallError):
    """What was typed, or set in a variable, is wrong. Nothing was sent, and the exit code is 2, as for every wrong option."""

    exit_code = 2


class AnsweredObject(dict[str, Any]):
    """An object in an answer. A missing member is a readable error, because the server may be another release, or not ours."""

    def __missing__(self, name: str) -> Any:
        """Raises ApiCallError."""
        raise ApiCallError(
            f"The answer has no {name}. The server is not OMS webhooks, or it is another release than this command. "
            "Check --url, and use the same release on both sides."
        )


@contextmanager
def advice_for_commands(said: str, instead: str) -> Iterator[None]:
    """Replace advice for programs that call the API with what to type. An API of another release may word it differently: then it stays."""
    try:
        yield
    except ApiCallError as error:
        raise type(error)(str(error).replace(said, instead), error.status) from error


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event of a stream. ``data`` is its JSON, and None if it only has an id: what a client states after a break."""

    name: str
    data: Any
    id: str = ""


def checked_url(url: str) -> str:
    """The URL of an API, without surrounding blanks.

    Raises:
        WrongOptionError: it is not a URL, or it contains a password. The password is not printed.
    """
    text = url.strip()
    try:
        parts = urlsplit(text)
        has_login, is_url = parts.username is not None, parts.scheme in ("http", "https") and bool(parts.hostname)
        is_url = is_url and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        has_login, is_url = "@" in text, False
    if has_login:
        raise WrongOptionError("The URL of the API must not contain a user name or password. Use --api-key for the API key.")
    if not (is_url and text.isprintable() and " " not in text):
        raise WrongOptionError(f"{text!r} is not a URL of the API. Use one such as http://127.0.0.1:8080.")
    return text


class ApiClient:
    """Calls ``/api/webhook``. Each command has one instance.

    Raises:
        WrongOptionError: the URL or the key is malformed.
    """

    def __init__(self, url: str, api_key: str, key_source: str = "") -> None:
        """``key_source``: where the user can change the key. It is named if the key is refused."""
        self._key_source = key_source
        if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            # Checked here, because httpx would print the key in its error.
            message = (
                "The API key contains a character that is not allowed: a space, a line break or a non-ASCII character, such as the … of "
                "an example. Copy the key again (--api-key or OMS_WEBHOOKS_API_KEY)."
            )
            raise WrongOptionError(message)
        self.root: Final = root_of(checked_url(url))
        """The URL of the pipeline."""
        try:
            self._client = httpx.Client(
                base_url=f"{self.root}{API_PATH}/",
                headers={"Authorization": f"Bearer {api_key}"},
                trust_env=False,
            )
        except httpx.InvalidURL:
            raise WrongOptionError(f"{self.root!r} is not a URL of the API. Use one such as http://127.0.0.1:8080.") from None

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
        """Call a route and return the JSON of its answer, or None if there is no body. Waits up to ``seconds``.

        Raises:
            ApiCallError: there was no answer, it was not 2xx, or it did not come from our API.
        """
        response = self._answer(method, path, params, json, seconds)
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        found = _document(response)
        # A DELETE has no body. If there is one, another server answered, and nothing was deleted.
        if method == "DELETE" or not isinstance(found, dict):
            raise self._foreign(response)
        if ignored := found.get("ignored_fields"):
            print_notice(
                f"The API ignored unknown fields: {', '.join(map(str, ignored))}. It is another release than this command."
            )
        return found

    def events(self, path: str, params: list[tuple[str, str]]) -> Iterator[ServerEvent]:
        """The server-sent events of a route. Ends when the server closes the stream.

        Raises:
            ApiCallError: there was no answer, it was not 2xx, or the connection broke.
        """
        headers = {"Accept": _STREAM}
        try:
            with self._client.stream("GET", path, params=[*params], headers=headers, timeout=_SILENCE_SECONDS) as response:
                if not response.is_success:
                    response.read()
                    raise self._refusal(response, path)
                if not response.headers.get("Content-Type", "").startswith(_STREAM):
                    raise self._foreign(response)
                yield from _events(response.iter_lines())
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable(error) from error
        except httpx.HTTPError as error:
            raise ApiCallError(f"The API at {self._client.base_url} stopped responding ({_in_words(error)}).") from error
        except UnicodeEncodeError:
            raise ApiCallError(_NO_TEXT) from None
        except json.JSONDecodeError:
            raise ApiCallError(f"The API at {self._client.base_url} sent data that is not JSON.") from None

    def text(self, path: str, *, seconds: float = _ANSWER_SECONDS) -> str:
        """The answer of a GET route, as text.

        Raises:
            ApiCallError: there was no answer, it was not 2xx, or it was an HTML page.
        """
        response = self._answer("GET", path, None, None, seconds)
        if "html" in response.headers.get("Content-Type", ""):
            raise self._foreign(response)
        return response.text

    def _answer(
        self, method: str, path: str, params: list[tuple[str, str]] | None, json: object, seconds: float
    ) -> httpx.Response:
        if not all(part.strip(".") for part in path.split("/")):
            raise ApiCallError(f"{path!r} is not a valid API path. Nothing was sent.")
        where, doubt = f"The API at {self._client.base_url}", "" if method == "GET" else _IN_DOUBT
        try:
            response = self._client.request(method, path, params=[*(params or [])], json=json, timeout=seconds)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        except UnicodeEncodeError:
            raise ApiCallError(_NO_TEXT) from None
        except httpx.TimeoutException as error:
            raise ApiCallError(f"{where} did not respond within {seconds:g} seconds.{doubt}") from error
        except httpx.HTTPError as error:
            raise ApiCallError(f"{where} closed the connection before it responded ({_in_words(error)}).{doubt}") from error
        if not response.is_success:
            raise self._refusal(response, path)
        return response

    def _unreachable(self, error: Exception) -> ApiCallError:
        where, why = f"The API at {self._client.base_url}", _in_words(error)
        if _NO_TLS in why:
            return ApiCallError(f"{where} is not responding with TLS ({why}). If it has none, use http:// in its URL.")
        return ApiCallError(f"{where} is not responding ({why}). Is it running? Start it with: oms-webhooks all")

    def _foreign(self, response: httpx.Response, advice: str = "") -> ForeignAnswerError:
        kind = response.headers.get("Content-Type", "content of unknown type")
        message = f"This is not the API of OMS webhooks: {self._client.base_url} returned {response.status_code} with {kind}."
        return ForeignAnswerError(message + advice, response.status_code)

    def _refusal(self, response: httpx.Response, path: str) -> ApiCallError:
        """The error of an answer that is not 2xx."""
        status = response.status_code
        if response.has_redirect_location:
            place = response.headers["Location"].partition(API_PATH)[0]
            return ApiCallError(f"{self._client.base_url} redirects to {place}. If that is the API, use it as --url.", status)
        answer = _document(response)
        if answer is _NOTHING:
            return self._foreign(response, " Check --url. A proxy in front of the API may have responded instead.")
        said, fields = (answer.get("error"), _by_field(answer.get("errors"))) if isinstance(answer, dict) else (None, [])
        if not isinstance(said, str):
            return ForeignAnswerError("\n  ".join([f"The API returned {status}.", *fields]), status)
        if status == httpx.codes.UNAUTHORIZED:
            said = said.replace(_FOR_PROGRAMS, "")
            said += f" The key that was sent is from {self._key_source}." if self._key_source else ""
        if status == httpx.codes.NOT_FOUND:
            said = missing_object(path) or said
        if status == httpx.codes.UNPROCESSABLE_ENTITY and fields:  # the sentence before them says no more
            return ApiCallError(fields[0] if len(fields) == 1 else "\n  ".join([_SEVERAL, *fields]), status)
        return ApiCallError("\n  ".join([said, *fields]), status)


_NOTHING: Final = object()


def _events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    name, last_id, data = "", "", list[str]()
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last_id = value
        elif not line and (data or last_id):
            yield ServerEvent(name, json.loads("\n".join(data), object_hook=AnsweredObject) if data else None, last_id)
            name, last_id, data = "", "", []


def _document(response: httpx.Response) -> Any:
    """The JSON of an answer, or ``_NOTHING`` if it has none."""
    try:
        return response.json(object_hook=AnsweredObject)
    except (ValueError, RecursionError):
        return _NOTHING


def _by_field(fields: object) -> list[str]:
    """The problems of each field, one text per field. It begins with the field, unless the command has an argument or option for it alone."""
    if not isinstance(fields, Mapping):
        return []
    problems = {name: "; ".join(map(str, found if isinstance(found, list) else [found])) for name, found in fields.items()}
    return [said if name in _CLEAR or said.startswith(name) else f"{name}: {said}" for name, said in problems.items()]


def _in_words(error: Exception) -> str:
    return _NUMBERED.sub("", str(error)) or "the connection broke"


def client_for(url: str | None, api_key: str | None) -> ApiClient:
    """A client of the API at ``url``, or of the pipeline on this machine. Prints which one. A local pipeline's key is sent only to it.

    Raises:
        ApiCallError: no URL was given and no pipeline runs here, or a URL was given without a key.
        NoPipelineError: several pipelines run here, and none was chosen.
    """
    url = checked_url(url) if url else None
    note = local_pipeline(url)
    if not url and note is None:
        message = (
            "No running pipeline was found on this machine. Start one (oms-webhooks all), or use --url and --api-key "
            "(OMS_WEBHOOKS_API_URL, OMS_WEBHOOKS_API_KEY)."
        )
        raise ApiCallError(message)
    client = api_client(url, api_key, note)
    by = f" ({API_URL})" if url and os.environ.get(API_URL) == url else ""
    print_notice(f"Using {note}{by}." if note is not None else f"Using the API at {root_of(url or '')}{by}.")
    return client


def api_client(url: str | None, api_key: str | None, note: RunNote | None) -> ApiClient:
    """A client of the API at ``url``, or of a pipeline on this machine, with the given key, or that pipeline's own.

    Raises:
        ApiCallError: there is no key.
        WrongOptionError: the URL or the key is malformed.
    """
    key = api_key or (note.api_key if note is not None else "")
    if not key:
        raise ApiCallError(f"{url} needs an API key. Use --api-key, or set OMS_WEBHOOKS_API_KEY.")
    return ApiClient(url or (note.url if note is not None else ""), key, _key_source(api_key, note))


def _key_source(api_key: str | None, note: RunNote | None) -> str:
    """Where the key of a command comes from. Only the variable can be there without the user thinking of it."""
    if not api_key:
        return ""
    if os.environ.get(API_KEY) != api_key:
        return "--api-key"
    return API_KEY if note is None else f"{API_KEY}; without this variable, the pipeline on this machine gets its own key"
