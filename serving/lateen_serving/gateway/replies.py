# SPDX-License-Identifier: Apache-2.0
"""The one place where errors become HTTP, as OpenAI error objects. Called by `ingress.py` and `stream.py`."""

from typing import Any

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import Response

from lateen_serving import errors


class TooLarge(errors.InputError):
    """The body is longer than the gateway reads."""

    default_code = "request_too_large"


class TooSlow(errors.InputError):
    """The body did not arrive in time."""

    default_code = "request_timeout"


class RouteError(errors.InputError):
    """No such route, or not with this method.

    Attributes:
        status: The HTTP status.

    """

    default_code = "unknown_url"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unexpected(errors.ServiceError):
    """A defect of the gateway; the reply names only the id under which the log has the traceback."""

    severity = errors.Severity.CRITICAL


_STATUS: tuple[tuple[type[errors.ServiceError], int], ...] = (
    (TooLarge, 413),
    (TooSlow, 408),
    (errors.NotFound, 404),
    (errors.InputError, 400),
    (errors.AuthenticationError, 401),
    (errors.Overloaded, 503),
    (errors.QueueTimeout, 503),
    (errors.Unavailable, 503),
    (errors.DeadlineExceeded, 504),
)
_RETRY_AFTER_SECONDS = 1


def status(error: errors.ServiceError) -> int:
    """HTTP status of an error; 500 for what is nobody's request's fault."""
    if isinstance(error, RouteError):
        return error.status
    return next((code for kind, code in _STATUS if isinstance(error, kind)), 500)


def error_object(error: errors.ServiceError) -> dict[str, Any]:
    """OpenAI's `error` object."""
    is_callers = status(error) < 500
    return {
        "message": error.message,
        "type": "invalid_request_error" if is_callers else "server_error",
        "param": error.param,
        "code": error.code,
    }


def error_response(error: errors.ServiceError) -> Response:
    """The reply for an error that came before the reply started."""
    code = status(error)
    headers: dict[str, str] = {}
    if code == 401:
        headers["www-authenticate"] = "Bearer"
    if code == 503:
        headers["retry-after"] = str(error.retry_after or _RETRY_AFTER_SECONDS)
    if code >= 500:
        headers["x-should-retry"] = "true" if error.retry_allowed else "false"
    return json_response({"error": error_object(error)}, code, headers)


def json_response(content: object, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON reply; numpy arrays are allowed in it."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status_code, headers, media_type="application/json")


def of_http(error: HTTPException, method: str, path: str) -> RouteError:
    """What the framework refused by itself: an unknown route or method."""
    if error.status_code == 405:
        return RouteError(f"Not allowed to {method} on {path}.", 405)
    return unknown_url(method, path, error.status_code)


def unknown_url(method: str, path: str, status_code: int = 404) -> RouteError:
    """There is no such route."""
    return RouteError(f"Invalid URL ({method} {path}).", status_code)


def of_exception(error: Exception, log: structlog.typing.FilteringBoundLogger) -> errors.ServiceError:
    """Any exception as a ServiceError; one that is none is logged with its traceback and told by its id only."""
    if isinstance(error, errors.ServiceError):
        return error
    unexpected = Unexpected("")
    unexpected.message = f"The server had an error. If it persists, report error id {unexpected.error_id}."
    log.error("unexpected error", error_id=unexpected.error_id, exc_info=error)
    return unexpected
