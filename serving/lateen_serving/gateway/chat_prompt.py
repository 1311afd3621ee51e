# SPDX-License-Identifier: Apache-2.0
"""`prompt` in chat completions: a PromptTemplate before the caller's messages, filled with what its own search finds.
Called by `chat.py`.

Where request and prompt both say something, the request wins: temperature, top_p, stop, the longest answer and
`response_format` are the prompt's only where the request leaves them out.
"""

from collections.abc import Sequence

from lateen_api import rendering
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_serving.engine.protocol import ChatMessage
from lateen_serving.errors import InputError
from lateen_serving.gateway import prompt_search, prompting, retrieve
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.formats import Format
from lateen_serving.gateway.requests.chat import ChatRequest


async def find(context: RequestContext, request: ChatRequest) -> PromptTemplateSpec | None:
    """Fill `context.prompt`; the template, None where the request names none.

    Raises NotFound, or InputError that names a wrong variable, or for a prompt that is filled with passages and does not
    say from where.
    """
    if request.prompt is None:
        return None
    spec = await prompting.find(context, request.prompt.id, request.prompt.version)
    if rendering.wants_retrieval(spec) and rendering.search(spec) is None:
        raise InputError(
            "This prompt is filled with retrieved passages and names no index: call it through /v1/responses with"
            " file_search, or add retrieval.indexRefs to its variable.",
            param="prompt.id",
        )
    prompting.check(context, request.prompt, request.metadata)
    return spec


async def fill(
    service: Service, context: RequestContext, request: ChatRequest, said: Sequence[ChatMessage]
) -> None:
    """Fill `context.messages`: the prompt's with the passages it searches for, then the caller's (`said`).

    Raises InputError that names the wrong variable, and whatever keeps a search from being done.
    """
    options = prompt_search.own(context)
    if options is not None:
        context.query = prompt_search.question(context, request.prompt, said, request.metadata, "messages")
        await retrieve.retrieve(service, context, options)
    prompting.fill(context, request.prompt, said, request.metadata)
    prompting.note_use(service, context)


def answer_format(request: ChatRequest, spec: PromptTemplateSpec | None) -> Format:
    """What the answer looks like: as the request says, else as the prompt says."""
    if "response_format" in request.model_fields_set or spec is None:
        return request.response_format
    return prompting.output_format(spec) or request.response_format
