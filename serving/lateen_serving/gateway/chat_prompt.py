# SPDX-License-Identifier: Apache-2.0
"""`prompt` in chat completions: a PromptTemplate before the caller's messages. Called by `chat.py`.

Where request and prompt both say something, the request wins: temperature, top_p, stop, the longest answer and
`response_format` are the prompt's only where the request leaves them out.
"""

from lateen_api import rendering
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_serving.errors import InputError
from lateen_serving.gateway import conversation, prompting
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.formats import Format
from lateen_serving.gateway.requests.chat import ChatRequest


async def find(context: RequestContext, request: ChatRequest) -> PromptTemplateSpec | None:
    """Fill `context.prompt`; the template, None where the request names none.

    Raises NotFound, or InputError for one that is filled with retrieved passages: there is no retrieval here.
    """
    if request.prompt is None:
        return None
    spec = await prompting.find(context, request.prompt.id, request.prompt.version)
    if rendering.wants_retrieval(spec):
        raise InputError(
            "This prompt is filled with retrieved passages: call it through /v1/responses with file_search.",
            param="prompt.id",
        )
    return spec


def fill(service: Service, context: RequestContext, request: ChatRequest) -> None:
    """Fill `context.messages`: the prompt's, then the caller's; raises InputError that names the wrong variable."""
    prompting.fill(context, request.prompt, conversation.of_chat(request.messages), request.metadata)
    prompting.note_use(service, context)


def answer_format(request: ChatRequest, spec: PromptTemplateSpec | None) -> Format:
    """What the answer looks like: as the request says, else as the prompt says."""
    if "response_format" in request.model_fields_set or spec is None:
        return request.response_format
    return prompting.output_format(spec) or request.response_format
