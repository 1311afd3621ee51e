# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/vector_stores/{id}/search`."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from lateen_serving.gateway.fields import names
from lateen_serving.gateway.requests.bounds import Query
from lateen_serving.gateway.requests.filters import Retrieving


class SearchRequest(Retrieving):
    """`POST /v1/vector_stores/{id}/search`."""

    openai_fields: ClassVar[frozenset[str]] = names("rewrite_query")
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {"rewrite_query": (False,)}

    query: Query
