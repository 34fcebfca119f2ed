"""Errors, and their answers: JSON ``{"error": "…"}`` and, for 422, the sentences for each field; or a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.broker.errors import PublishError
from pipeline.ops.logs import logger
from pipeline.web.responses import answer

if TYPE_CHECKING:
    from pipeline.endpoints.registry import Registry

log = logger(__name__)

NOT_FOUND = "The resource you were looking for could not be found."
HOW_TO_SEND_A_KEY = "Send it in the header Authorization: Bearer <API key>."
_REFUSED = "Kafka refused what this request tried to write, so all or part of the request had no effect."
INVALID = "Invalid resource. Please fix errors and try again."


class ApiError(Exception):
    """A request that cannot be served. ``str(error)`` says why and what to do::

        ApiError
         +-- InvalidError            422, with the errors of each field
         +-- HeldCountError          409, a different number of deliveries is held
         +-- UnauthorizedError       401
         |    +-- WrongKeyError      401, the key is not valid
         +-- StartingError           503, not ready yet

    ``status`` is the HTTP status of the answer.
    """

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class InvalidError(ApiError):
    """422: the errors of the input, as sentences for each field."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        super().__init__(422, INVALID)
        self.errors = errors

    @property
    def sentences(self) -> list[str]:
        """The sentences of all fields."""
        return [one for of_field in self.errors.values() for one in of_field]


class HeldCountError(ApiError):
    """409: the number of held deliveries is not the one in the request."""

    def __init__(self, named: int, held: int) -> None:
        are = "is held" if held == 1 else "are held"
        super().__init__(
            409, f"{held:,} {are} for this endpoint now, not {named:,}, so nothing was dropped. Send the current number."
        )
        self.held = held


class UnauthorizedError(ApiError):
    """401."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message, headers={"WWW-Authenticate": "Bearer"})


class WrongKeyError(UnauthorizedError):
    """401: the key in the request is not valid."""

    def __init__(self) -> None:
        super().__init__(f"The API key is not valid. Check it for missing characters. {HOW_TO_SEND_A_KEY}")


class StartingError(ApiError):
    """503: the API is still starting, or cannot start because Kafka is unavailable."""

    def __init__(self, waiting_for: str = "") -> None:
        why = f" and is waiting for {waiting_for}, which is not available now (see /readyz)" if waiting_for else ""
        super().__init__(503, f"The service is starting{why}. Try again in a moment.", headers={"Retry-After": "5"})


def require_endpoints(registry: Registry) -> None:
    """Make sure that all endpoints are in memory. Before that, an existing endpoint would seem not to exist.

    Raises:
        ApiError: 503, they have not been read yet.
    """
    if registry.table.problem() is not None:
        raise ApiError(503, "The endpoints are still being loaded. Try again in a moment.")


def not_found() -> ApiError:
    """404."""
    return ApiError(404, NOT_FOUND)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The answer to an error: a status, a sentence and, for invalid input, sentences for each field."""

    status: int
    message: str
    headers: Mapping[str, str] | None = None
    fields: Mapping[str, list[str]] | None = None


def explained(request: web.Request, error: Exception) -> ErrorBody:
    """The answer to an error. Unexpected errors are logged, and answered without details."""
    from pipeline.core.search import SearchLimitError  # noqa: PLC0415 - every role loads this file, but only the API searches

    match error:
        case InvalidError():
            return ErrorBody(error.status, str(error), fields=error.errors)
        case SearchLimitError():
            return ErrorBody(422, INVALID, fields={"q": [str(error)]})
        case ApiError():
            return ErrorBody(error.status, str(error), error.headers)
        case web.HTTPException():
            return _of_aiohttp(request, error)
        case PublishError():
            log.error("Kafka does not accept what a request writes", error=str(error))
            reason = str(error).rstrip(".")
            return ErrorBody(503, f"{_REFUSED} {reason}. Trying again will not help until this is fixed.")
    # The route's template, not the path: text that a client chose must not get into the log.
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unmatched"
    log.error("a request failed", method=request.method, route=route, exc_info=error)
    return ErrorBody(500, "Something went wrong on our side. The error was logged. Try again later.")


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as JSON."""
    try:
        return await handler(request)
    except Exception as error:
        if isinstance(error, web.HTTPException) and error.status < 400:
            raise
        from schemas.http.answers import ErrorAnswer, InvalidAnswer  # noqa: PLC0415 - only the API needs them
        from schemas.http.endpoints import HeldCountConflict  # noqa: PLC0415

        if isinstance(error, HeldCountError):
            return answer(HeldCountConflict(error=str(error), held_count=error.held), error.status)
        problem = explained(request, error)
    if problem.fields is not None:
        return answer(InvalidAnswer(error=problem.message, errors=problem.fields), problem.status)
    return answer(ErrorAnswer(error=problem.message), problem.status, problem.headers)


def _of_aiohttp(request: web.Request, error: web.HTTPException) -> ErrorBody:
    match error:
        case web.HTTPNotFound():
            return ErrorBody(404, NOT_FOUND)
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return ErrorBody(405, f"{request.method} is not supported here. Use {allowed}.", {"Allow": allowed})
        case web.HTTPRequestEntityTooLarge():
            return ErrorBody(413, f"The request body is too large: at most {request.client_max_size:,} bytes are accepted.")
        case _:
            return ErrorBody(error.status, f"{error.reason}.")
