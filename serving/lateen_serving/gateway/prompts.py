# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/prompts`, `GET /v1/prompts/{id}/versions` and `POST /v1/prompts/{id}/render`. Called by `ingress.py`.

Any valid key may use them: who may see which prompt is a matter of policies, which do not exist yet.
"""

from typing import Any

from starlette.responses import Response

from lateen_api.catalog import Prompt, PromptRevision
from lateen_serving.gateway import body, conversation, render, replies, resolve
from lateen_serving.gateway.context import RequestContext
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


async def dry_run(context: RequestContext, prompt_id: str, document: dict[str, Any]) -> Response:
    """The messages that a request with these variables would start with; nothing is generated or counted as a use.

    A variable that is filled with retrieved passages is empty here. Raises NotFound, or InputError that names the
    wrong variable.
    """
    request = body.parse(RenderRequest, document)
    revision = resolve.prompt(context, prompt_id, request.version, param="prompt_id")
    of_prompt = render.prompt_messages(
        revision.spec, request.variables, render.injection(context, request.metadata), param="variables"
    )
    said = conversation.of_chat(request.messages)
    reply = {
        "object": "prompt.rendering",
        "id": prompt_id,
        "version": revision.spec.version,
        "revision": revision.revision,
        "messages": render.messages(of_prompt, said, None, None),
    }
    return replies.json_response(reply)


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
