# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/prompts`, `GET /v1/prompts/{id}/versions` and `POST /v1/prompts/{id}/render`. Called by `ingress.py`.

Any valid key may use them: who may see which prompt is a matter of policies, which do not exist yet.
"""

from typing import Any

from starlette.responses import Response

from lateen_api.catalog import Model, Prompt, PromptRevision
from lateen_serving.engine.protocol import Counted
from lateen_serving.gateway import asking, body, calling, conversation, prompting, replies, resolve
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.requests.prompts import RenderRequest


def prompts(context: RequestContext) -> Response:
    """All prompts, each with its live version, on one page."""
    data = [_prompt(prompt) for prompt in context.snapshot.prompts.values()]
    return replies.json_response({"object": "list", "data": data})


def versions(context: RequestContext, prompt_id: str) -> Response:
    """All versions of a prompt that can be pinned, the live one first; raises NotFound."""
    resolve.prompt(context, prompt_id, None, param="prompt_id")
    assert context.prompt is not None
    data = [
        {"object": "prompt.version", **_revision(each), "live": number == 0}
        for number, each in enumerate(context.prompt.revisions)
    ]
    return replies.json_response({"object": "list", "data": data})


async def dry_run(
    service: Service, context: RequestContext, prompt_id: str, document: dict[str, Any]
) -> Response:
    """The messages that a request with these variables would start with; nothing is generated, and no use
    counted.

    With a model they are as that model would read them, cut to the prompt's context window, and their tokens are counted.
    A variable that is filled with retrieved passages is empty here. Raises NotFound, or InputError that names the
    wrong variable.
    """
    request = body.parse(RenderRequest, document)
    await prompting.find(context, prompt_id, request.version, param="prompt_id")
    revision = context.prompt_revision
    assert revision is not None
    if request.model is not None:
        resolve.model(context, request.model, "generate")
    prompting.fill(
        context,
        request.reference(prompt_id),
        conversation.of_chat(request.messages),
        request.metadata,
        variables="variables",
    )
    reply: dict[str, Any] = {
        "object": "prompt.rendering",
        "id": prompt_id,
        "version": revision.spec.version,
        "revision": revision.revision,
        "messages": context.messages,
    }
    if request.model is not None:
        counted = await _counted(service, context)
        reply |= {"model": request.model, **counted}
    return replies.json_response(reply)


async def _counted(service: Service, context: RequestContext) -> Counted:
    """The prompt as the model reads it. Raises ServiceError: a prompt that does not fit names the numbers."""
    model = context.model
    assert model is not None
    (asked,) = asking.requests(context)

    async def work(current: Model) -> Counted:
        return await service.caller.count(current.application, asked)

    context.model, counted = await calling.call(service, model, context.deadline, work, calling.renewed_model)
    context.cut = counted["cut"]
    return counted


def _prompt(prompt: Prompt) -> dict[str, Any]:
    return {"id": prompt.id, "object": "prompt", **_revision(prompt.revisions[0])}


def _revision(revision: PromptRevision) -> dict[str, Any]:
    return {
        "version": revision.spec.version,
        "revision": revision.revision,
        "created": revision.created,
        "variables": [
            {"name": each.name, "type": each.type, "required": each.required and each.default is None}
            for each in revision.spec.variables
            if each.from_ == "request"
        ],
    }
