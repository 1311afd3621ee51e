# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/vector_stores/{id}/search`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from lateen_serving.gateway.fields import RequestBody, names
from lateen_serving.gateway.requests.bounds import Results


class SearchRequest(RequestBody):
    """`POST /v1/vector_stores/{id}/search`."""

    openai_fields: ClassVar[frozenset[str]] = names("filters ranking_options rewrite_query")
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {"rewrite_query": (False,)}

    query: Annotated[str, Field(min_length=1, max_length=65536)]
    max_num_results: Results | None = None
    """Default: the index's `retrieval.limit`."""
