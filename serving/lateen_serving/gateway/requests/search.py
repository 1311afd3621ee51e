# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/vector_stores/{id}/search`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from lateen_serving.gateway.fields import names
from lateen_serving.gateway.requests.filters import Retrieving


class SearchRequest(Retrieving):
    """`POST /v1/vector_stores/{id}/search`."""

    openai_fields: ClassVar[frozenset[str]] = names("rewrite_query")
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {"rewrite_query": (False,)}

    query: Annotated[str, Field(min_length=1, max_length=65536)]
