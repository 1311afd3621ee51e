# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/rerank`, as Cohere and Jina have it."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lateen_serving.gateway.fields import WHOLE, RequestBody, names
from lateen_serving.gateway.requests.bounds import Name, Query


class DocumentObject(BaseModel):
    """The longer way to write a document; only published."""

    model_config = ConfigDict(extra="forbid")

    text: str


def _document(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"text"}:
        return value["text"]
    return value


class RerankRequest(RequestBody):
    """`POST /v1/rerank`."""

    openai_fields: ClassVar[frozenset[str]] = names(
        "max_chunks_per_doc max_tokens_per_doc priority rank_fields return_embeddings truncation"
    )
    """Fields of Cohere's and Jina's API that aren't acted on."""

    model: Name
    query: Query
    documents: Annotated[
        list[Annotated[str, BeforeValidator(_document, json_schema_input_type=str | DocumentObject)]],
        Field(min_length=1, max_length=1024),
    ]
    """Texts, or objects whose `text` is one."""

    top_n: Annotated[int, Field(ge=1), WHOLE] | None = None
    """Only the best ones; default: all."""

    return_documents: bool = False
    """Whether each result repeats its document."""
