# SPDX-License-Identifier: Apache-2.0
"""How replies tell what was found and what an answer rests on. Used by the modules that make replies."""

from collections.abc import Sequence
from typing import Any

from lateen_serving.gateway.citations import Citation, cite
from lateen_serving.gateway.context import RequestContext
from lateen_serving.gateway.retrieve import attributes
from lateen_serving.rag.passages import Passage

Document = dict[str, Any]


def result(passage: Passage) -> Document:
    """A passage as a search result; its text apart."""
    return {
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": passage.score,
        "attributes": attributes(passage),
    }


def annotation(citation: Citation) -> Document:
    """A citation as OpenAI writes it, and where in the document it is."""
    return {
        "type": "file_citation",
        "index": citation.index,
        "file_id": citation.file_id,
        "filename": citation.passage.filename,
        "attributes": attributes(citation.passage),
    }


def told(context: RequestContext, answers: Sequence[tuple[int, str]], with_text: bool) -> Document:
    """What a chat completion tells of its search.

    Args:
        context: The request's.
        answers: The number of each choice with its text.
        with_text: Whether the passages' texts are wanted.

    """
    read = len(context.passages_read())
    return {
        "vector_store_ids": [index.id for index in context.indexes],
        "query": context.query,
        "notes": list(context.retrieval),
        "results": [
            {"number": number, "is_in_prompt": number <= read}
            | result(passage)
            | ({"text": passage.text} if with_text else {})
            for number, passage in enumerate(context.passages, start=1)
        ],
        "citations": [
            {"choice": number} | annotation(citation)
            for number, text in answers
            for citation in cite(text, context.passages_read())
        ],
    }
