# SPDX-License-Identifier: Apache-2.0
"""Second step: what the request's names mean in its catalog. Called by the endpoints."""

from lateen_api.catalog import Index, Model, Prompt, PromptRevision
from lateen_api.model_deployment import Task
from lateen_serving.errors import InputError, NotFound, Unavailable
from lateen_serving.gateway.context import RequestContext
from lateen_serving.gateway.state import Snapshot

_TASK_HINT: dict[Task, str] = {
    "generate": "/v1/chat/completions, /v1/completions or /v1/responses",
    "embed": "/v1/embeddings",
    "rerank": "/v1/rerank",
}

_ADAPTER_RETRY_SECONDS = 2
_FAILED_RETRY_SECONDS = 60
"""A replica tries again by itself, ever more slowly: see `engine/app.py`."""


def model(context: RequestContext, model_id: str, task: Task) -> Model:
    """Fill `context.model`, `context.adapter` and `context.deadline` from `id` or `id:adapter`.

    Raises NotFound, InputError if the model has another task, or Unavailable for an adapter that is not loaded.
    """
    _refuse_unloaded(context.snapshot, model_id)
    found, context.adapter = find_model(context.snapshot, model_id)
    if found.task != task:
        raise InputError(
            f"The model '{model_id}' can't be used here; call it through {_TASK_HINT[found.task]}.",
            code="model_task_mismatch",
            param="model",
        )
    context.model = found
    context.deadline = context.started + found.request_timeout_seconds
    return found


def find_model(snapshot: Snapshot, model_id: str) -> tuple[Model, str]:
    """The model clients call `model_id`, and the name of the adapter or an empty text; raises NotFound."""
    base, _, adapter = model_id.partition(":")
    found = snapshot.models.get(base)
    if found is None or (":" in model_id and adapter not in found.adapters):
        raise NotFound(
            f"The model '{model_id}' does not exist. GET /v1/models lists those that do.",
            code="model_not_found",
            param="model",
        )
    return found, adapter


def _refuse_unloaded(snapshot: Snapshot, model_id: str) -> None:
    """Raise Unavailable where `model_id` names an adapter that exists but is not loaded."""
    base, _, adapter = model_id.partition(":")
    found = snapshot.models.get(base)
    if found is None:
        return
    if adapter in found.loading_adapters:
        error = Unavailable(
            f"The adapter '{adapter}' of model '{base}' is being loaded. Try again in a moment.",
            code="adapter_loading",
            param="model",
        )
        error.retry_after = _ADAPTER_RETRY_SECONDS
        raise error
    if adapter in found.failed_adapters:
        error = Unavailable(
            f"The adapter '{adapter}' of model '{base}' could not be loaded; its ModelDeployment's status says why.",
            code="adapter_failed",
            param="model",
        )
        error.retry_after, error.retry_allowed = _FAILED_RETRY_SECONDS, False
        raise error


def prompt(
    context: RequestContext, prompt_id: str, version: str | None, param: str = "prompt.id"
) -> PromptRevision:
    """Fill `context.prompt` and its revision: the live one, or the newest whose version label is `version`.

    Raises NotFound, which names `param` or the version.
    """
    found = context.snapshot.prompts.get(prompt_id)
    if found is None:
        raise NotFound(
            f"The prompt '{prompt_id}' does not exist. GET /v1/prompts lists those that do.",
            code="prompt_not_found",
            param=param,
        )
    context.prompt = found
    context.prompt_revision = _revision(
        found, version, "version" if param == "prompt_id" else "prompt.version"
    )
    return context.prompt_revision


def _revision(found: Prompt, version: str | None, param: str) -> PromptRevision:
    if version is None:
        return found.revisions[0]
    for revision in found.revisions:
        if revision.spec.version == version:
            return revision
    known = ", ".join(dict.fromkeys(revision.spec.version for revision in found.revisions))
    raise NotFound(
        f"The prompt '{found.id}' has no version '{version}'; it has: {known}.",
        code="prompt_version_not_found",
        param=param,
    )


def index(snapshot: Snapshot, index_id: str, param: str) -> Index:
    """The index clients call `index_id`; raises NotFound that names `param`."""
    found = snapshot.indexes.get(index_id)
    if found is None:
        raise NotFound(
            f"The vector store '{index_id}' does not exist. GET /v1/vector_stores lists those that do.",
            code="vector_store_not_found",
            param=param,
        )
    return found
