# SPDX-License-Identifier: Apache-2.0
"""Errors of the data plane. One tree, mapped to HTTP in one place (`gateway/replies.py`).

    ServiceError
    ├── InputError                the caller's request is wrong; never retried
    │   ├── UnsupportedField      a field we do not act on; refused by name
    │   ├── NotFound              no such model, prompt, index
    │   └── ContextTooLong        prompt and answer do not fit the model
    ├── AuthenticationError       no key, or an unknown one
    ├── ModelError                generation or embedding failed inside the engine
    │   ├── BrokenOff             the answer has no end
    │   └── OutOfMemory           an allocation failed; less at once may fit, or the same later
    ├── Overloaded                queue full; try again later
    ├── QueueTimeout              no replica was free within the model's queue timeout
    ├── DeadlineExceeded          not done within the model's request timeout
    ├── WrongVectors              an index holds vectors of another embedder than it should
    ├── Unavailable               a replica, the vector store or an application is not there now
    │   └── ReplicaLost           a replica died while it worked on the request
    └── LoadError                 a replica can't start: weights missing, refused or unsupported

They cross process borders through Ray, so every one can be pickled from its arguments.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Category(StrEnum):
    """Who has to act."""

    MODEL = "model"
    INFRASTRUCTURE = "infrastructure"
    INPUT = "input"
    SECURITY = "security"
    BUSINESS_LOGIC = "business_logic"


class Severity(StrEnum):
    """How loud to be."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class ServiceError(Exception):
    """Base of all errors a client or an operator of the service may see.

    Attributes:
        message: What happened and what to do, for people. Never holds a secret.
        code: Stable word for programs (OpenAI's `error.code`).
        param: Field of the request that is wrong, if one is.
        context: More facts for logs; never secrets.
        retry_after: Seconds after which another try makes sense; None: nothing is known.
        error_id: Random id that appears in the reply and in the log.
        timestamp: When it was raised, RFC 3339, UTC.

    """

    category: Category = Category.INFRASTRUCTURE
    severity: Severity = Severity.MEDIUM
    retry_allowed: bool = False
    default_code: str = "server_error"
    retry_after: int | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        context: Mapping[str, str | int | float] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.context = dict(context or {})
        self.error_id = uuid.uuid4().hex
        self.timestamp = datetime.now(UTC).isoformat()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.__dict__.copy()))

    def to_dict(self) -> dict[str, Any]:
        """Facts for a structured log line."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "code": self.code,
            "param": self.param,
            "category": self.category.value,
            "severity": self.severity.value,
            "retry_allowed": self.retry_allowed,
            "error_id": self.error_id,
            "timestamp": self.timestamp,
            "context": self.context,
        }


def _rebuild(kind: type[ServiceError], message: str, state: dict[str, Any]) -> ServiceError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class InputError(ServiceError):
    """The caller's request is wrong; the message names the field and the remedy."""

    category = Category.INPUT
    severity = Severity.LOW
    default_code = "invalid_value"


class UnsupportedField(InputError):
    """The request uses a field that is not acted on; it is refused rather than ignored."""

    default_code = "unsupported_parameter"


class NotFound(InputError):
    """The request names a model, prompt or index that does not exist or is not served."""

    default_code = "not_found"


class ContextTooLong(InputError):
    """Prompt and answer together exceed what the model can read."""

    default_code = "context_length_exceeded"


class AuthenticationError(ServiceError):
    """The request has no key, or one that is not known."""

    category = Category.SECURITY
    severity = Severity.LOW
    default_code = "invalid_api_key"


class ModelError(ServiceError):
    """The engine failed on this request."""

    category = Category.MODEL
    severity = Severity.HIGH
    retry_allowed = True
    default_code = "model_error"


class BrokenOff(ModelError):
    """The answer ended without its last event."""

    default_code = "answer_incomplete"


class OutOfMemory(ModelError):
    """The engine had too little free memory for this request."""

    category = Category.INFRASTRUCTURE
    default_code = "out_of_memory"


class Overloaded(ServiceError):
    """The queue in front of the model is full."""

    retry_allowed = True
    default_code = "overloaded"


class QueueTimeout(ServiceError):
    """No replica began to work on the request within the model's queue timeout."""

    retry_allowed = True
    default_code = "queue_timeout"


class DeadlineExceeded(ServiceError):
    """The request was not done within the model's request timeout."""

    default_code = "timeout"


class WrongVectors(ServiceError):
    """The question's vector can't be compared with those of the index; trying again does not help."""

    severity = Severity.CRITICAL
    default_code = "embedder_mismatch"


class Unavailable(ServiceError):
    """Something the request needs is not there now."""

    severity = Severity.HIGH
    retry_allowed = True
    default_code = "unavailable"


class ReplicaLost(Unavailable):
    """The replica that worked on the request died, as far as can be told not because it was meant to."""

    default_code = "model_unavailable"


class LoadError(ServiceError):
    """A replica can't start. `code` is a reason of `lateen_api.conditions.Reason`."""

    category = Category.MODEL
    severity = Severity.HIGH
    default_code = "ReplicaFailed"
