"""Errors as JSON: ``{"error": "…"}`` and, for 422, the sentences for each field."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.core.search import SearchLimitError
from pipeline.ops.logs import logger
from pipeline.web.answers import answer
from schemas.http_api import ErrorAnswer, InvalidAnswer

log = logger(__name__)

NOT_FOUND = "The resource you were looking for could not be found."
HOW_TO_SEND_A_KEY = "send one in the header Authorization: Bearer <API key>."
INVALID = "Invalid resource. Please fix errors and try again."


class ApiError(Exception):
    """A request that cannot be served; ``str(error)`` says why and what to do."""

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class InvalidError(ApiError):
    """422: what is wrong, in sentences for each field."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        super().__init__(422, INVALID)
        self.errors = errors


class UnauthorizedError(ApiError):
    """401."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message, headers={"WWW-Authenticate": "Bearer"})


class WrongKeyError(UnauthorizedError):
    """401: a key was sent, and it is none of ours."""

    def __init__(self) -> None:
        super().__init__(
            f"The API key is not one of this service's keys. Check it for missing characters, and {HOW_TO_SEND_A_KEY}"
        )


class StartingError(ApiError):
    """503: what the API works with is being started."""

    def __init__(self) -> None:
        super().__init__(503, "The service is starting; please try again in a moment.", headers={"Retry-After": "5"})


def not_found() -> ApiError:
    """404."""
    return ApiError(404, NOT_FOUND)


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as JSON. What nobody expected is logged and answered without details."""
    try:
        return await handler(request)
    except InvalidError as error:
        return answer(InvalidAnswer(error=str(error), errors=error.errors), error.status)
    except SearchLimitError as error:
        return answer(InvalidAnswer(error=INVALID, errors={"q": [str(error)]}), 422)
    except ApiError as error:
        return answer(ErrorAnswer(error=str(error)), error.status, error.headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _of_aiohttp(request, error)
    except Exception:
        # The route's template, not the path: nothing that a client chose gets into the log.
        resource = request.match_info.route.resource
        log.exception("a request failed", method=request.method, route=resource.canonical if resource else "unmatched")
        return answer(ErrorAnswer(error="Something went wrong here. It has been logged; please try again later."), 500)


def _of_aiohttp(request: web.Request, error: web.HTTPException) -> web.Response:
    match error:
        case web.HTTPNotFound():
            return answer(ErrorAnswer(error=NOT_FOUND), 404)
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return answer(ErrorAnswer(error=f"{request.method} is not supported here; use {allowed}."), 405, {"Allow": allowed})
        case web.HTTPRequestEntityTooLarge():
            message = f"The request body is too large: at most {request.client_max_size:,} bytes are accepted."
            return answer(ErrorAnswer(error=message), 413)
        case _:
            return answer(ErrorAnswer(error=f"{error.reason}."), error.status)
