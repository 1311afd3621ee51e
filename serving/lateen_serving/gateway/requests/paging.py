# SPDX-License-Identifier: Apache-2.0
"""Which page of a list is asked for: the query of `GET /v1/vector_stores` and of the lists below it."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from lateen_serving.gateway.fields import RequestBody, names

DEFAULT_LIMIT = 20


def number(value: Any) -> Any:
    """A number as queries write it."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


class PageRequest(RequestBody):
    """A page of a list."""

    openai_fields: ClassVar[frozenset[str]] = names("before filter")

    limit: Annotated[int, Field(ge=1, le=100), BeforeValidator(number)] = DEFAULT_LIMIT
    """Most items."""

    order: Literal["asc", "desc"] = "desc"
    after: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """Id of the last item of the page before."""
