# SPDX-License-Identifier: Apache-2.0
"""Before the third step, where a prompt is filled with passages: what is searched for, and where. Called by `chat.py` and
`responses.py`.
"""

from collections.abc import Iterator, Mapping, Sequence

from lateen_api import names, rendering
from lateen_api.catalog import Index
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_serving.engine.protocol import ChatMessage
from lateen_serving.errors import InputError, NotFound
from lateen_serving.gateway import prompting
from lateen_serving.gateway.context import RequestContext
from lateen_serving.gateway.requests.bounds import QUERY_CHARACTERS
from lateen_serving.gateway.requests.responses import PromptReference
from lateen_serving.rag.passages import Options

_QUESTION = "question"


def own(context: RequestContext) -> Options | None:
    """Fill `context.indexes` with those that the prompt itself names; None where it names none, or there is no prompt.

    Raises NotFound for one that can't be searched.
    """
    revision = context.prompt_revision
    search = rendering.search(revision.spec) if revision is not None else None
    if search is None:
        return None
    context.indexes = [_index(context, reference.name) for reference in search.index_refs]
    return Options(limit=search.limit)


def _index(context: RequestContext, name: str) -> Index:
    assert context.prompt is not None
    index_id = names.neighbour_id(context.prompt.id, name)
    found = context.snapshot.indexes.get(index_id)
    if found is None:
        raise NotFound(
            f"The prompt '{context.prompt.id}' is filled from the vector store '{index_id}', which does not exist or has"
            " no finished build yet. GET /v1/vector_stores lists those that can be searched.",
            code="vector_store_not_found",
            param="prompt.id",
        )
    return found


def ask(
    context: RequestContext,
    wanted: PromptReference | None,
    said: Sequence[ChatMessage],
    metadata: Mapping[str, str] | None,
    conversation: str,
) -> None:
    """Fill `context.query` with what is searched for: the variable that the prompt names for it; by default the prompt variable `question` if it is
    given, else the last user message of `said`, else the first string variable in the prompt's order.

    Raises InputError where there is nothing, or too much, which names the variable, or the request's field
    `conversation`.
    """
    _find(context, wanted, said, metadata, conversation)
    if len(context.query) > QUERY_CHARACTERS:
        raise InputError(
            f"Invalid value for '{context.query_param}': it is searched for, and longer than the {QUERY_CHARACTERS}"
            " characters of a search.",
            param=context.query_param,
        )


def _find(
    context: RequestContext,
    wanted: PromptReference | None,
    said: Sequence[ChatMessage],
    metadata: Mapping[str, str] | None,
    conversation: str,
) -> None:
    spec = context.prompt_revision.spec if context.prompt_revision is not None else None
    search = rendering.search(spec) if spec is not None else None
    if search is not None and search.query is not None:
        context.query_param = f"prompt.variables.{search.query}"
        context.query = _of_variable(context, search.query, wanted, metadata)
        return
    for text, param in _candidates(spec, wanted, said, conversation):
        if isinstance(text, str) and text.strip():
            context.query, context.query_param = text, param
            return
    raise InputError(
        f"There is nothing to search for: give '{conversation}' or the prompt variable '{_QUESTION}'.",
        code="missing_required_parameter",
        param=conversation,
    )


def _of_variable(
    context: RequestContext, name: str, wanted: PromptReference | None, metadata: Mapping[str, str] | None
) -> str:
    text = prompting.values(context, wanted, metadata).get(name)
    if isinstance(text, str) and text.strip():
        return text
    raise InputError(
        f"There is nothing to search for: the prompt looks for its variable '{name}', which is empty.",
        code="missing_required_parameter",
        param=context.query_param,
    )


def _candidates(
    spec: PromptTemplateSpec | None,
    wanted: PromptReference | None,
    said: Sequence[ChatMessage],
    conversation: str,
) -> Iterator[tuple[object, str]]:
    """What may be searched for, in order, and where the request has it."""
    given = wanted.variables if wanted is not None else {}
    yield given.get(_QUESTION), f"prompt.variables.{_QUESTION}"
    for message in reversed(said):
        if message["role"] == "user":
            yield message["content"], conversation
    for variable in spec.variables if spec is not None else ():
        yield given.get(variable.name), f"prompt.variables.{variable.name}"
