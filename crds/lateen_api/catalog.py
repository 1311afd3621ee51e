# SPDX-License-Identifier: Apache-2.0
"""The Catalog: everything the gateway must know, as one typed document.

The operator composes it from the resources and delivers it as the gateway's `user_config`; the gateway takes it
in `reconfigure` without a restart. It holds no secret: client keys appear as digests.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from lateen_api import names
from lateen_api.model_deployment import Task
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rag_index import Retrieval
from lateen_api.scaling import RoutingStrategy
from lateen_api.schema import SpecType


class ApiKey(SpecType):
    """A client key the gateway accepts."""

    name: str
    """Name of the Secret it comes from; appears in logs, the key never does."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the key (`names.key_digest`)."""


class Canary(SpecType):
    """A new revision that takes part of a model's requests; its application is RUNNING."""

    revision: str
    """The new revision."""

    application: str
    """Ray Serve application to call."""

    weight: Annotated[int, Field(ge=1, le=99)]
    """Percent of the requests it takes."""

    since: int
    """Unix time, seconds, at which this weight began; traffic is judged from then on."""


class Model(SpecType):
    """A model that takes traffic: its application is RUNNING."""

    id: str
    """What clients put in `model=`."""

    task: Task
    """What it does."""

    revision: str
    """Revision of the ModelDeployment that serves."""

    application: str
    """Ray Serve application to call."""

    created: int
    """Unix time, seconds, of the resource's creation."""

    request_timeout_seconds: int
    """Longest time for one request."""

    queue_timeout_seconds: int = 30
    """Longest wait for a replica."""

    max_queued_requests: int = 128
    """Requests that may wait for a replica, in each gateway replica."""

    routing: RoutingStrategy = "LeastLoaded"
    """How a request's replica is chosen."""

    adapters: list[str] = Field(default=[])
    """Names of the LoRA adapters that every replica has loaded, sorted; clients call one as `ID:NAME`."""

    loading_adapters: list[str] = Field(default=[])
    """Names of those that are not loaded yet, sorted: not listed, and calls are asked to come again."""

    failed_adapters: list[str] = Field(default=[])
    """Names of those that could not be loaded, sorted: not listed, and calls are told so."""

    canary: Canary | None = None
    """A new revision that takes part of the requests."""


class PromptRevision(SpecType):
    """One immutable revision of a prompt."""

    revision: str
    """Its hash."""

    created: int
    """Unix time, seconds, at which it was made."""

    spec: PromptTemplateSpec
    """The prompt, with everything that it includes in its place."""

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """Its JSON form, made once and not to be changed: a catalog has thousands, of which one change touches one."""
        return self.dump()

    @cached_property
    def digest(self) -> str:
        """Hash of its content."""
        return names.revision(self.document)


class Prompt(SpecType):
    """A PromptTemplate with its live revision first, older ones after it, newest first."""

    id: str
    """What clients put in `prompt.id`."""

    revisions: Annotated[list[PromptRevision], Field(min_length=1)]
    """Live first. A caller's `prompt.version` selects the first whose `spec.version` equals it."""


class Pushed(SpecType):
    """Where the documents go that clients send to an index; its spec has a source `push`."""

    source: str
    """Name of that source."""

    collection: str
    """Weaviate collection that says which files were sent; a build makes it."""

    max_document_bytes: int
    """Largest file that becomes a document."""

    keeps: bool = False
    """Whether documents stay once they are in the index: `sync.deletePolicy` is `Keep`."""


class Index(SpecType):
    """A RAGIndex whose alias points at a complete collection."""

    id: str
    """What clients put in `vector_store_ids`."""

    alias: str
    """Weaviate alias to query."""

    collection: str
    """The collection the alias points at."""

    revision: str
    """Revision of that collection."""

    embedder: str
    """Id of the embedding model whose vectors it holds."""

    embedder_revision: str
    """That model's revision when the collection was built."""

    embedder_application: str
    """Ray Serve application of that revision. Queries are embedded by it even while a newer revision of the model
    already serves others, so that vectors of two embedders never meet."""

    retrieval: Retrieval
    """Defaults of a search."""

    reranker: str | None = None
    """Id of the model that `retrieval.rerank` names; None without it."""

    pushed: Pushed | None = None
    """What to do with documents that clients send; None: the index takes none."""

    created: int
    """Unix time, seconds, of the resource's creation."""


class Catalog(SpecType):
    """All of it. Lists are sorted by id, so that equal content is equal text."""

    schema_version: Literal[1] = 1
    """Version of this document's shape."""

    keys: list[ApiKey] = Field(default=[])
    """Client keys. An empty list means that nobody may call."""

    models: list[Model] = Field(default=[])
    """Models that take traffic."""

    prompts: list[Prompt] = Field(default=[])
    """Prompts."""

    indexes: list[Index] = Field(default=[])
    """Indexes."""

    @cached_property
    def revision(self) -> str:
        """Hash of the content; the gateway reports the one it serves in `/readyz`."""
        prompts = [[prompt.id, *(each.digest for each in prompt.revisions)] for prompt in self.prompts]
        return names.revision(self._without_prompts() | {"prompts": prompts})

    def dump(self) -> dict[str, Any]:
        """The JSON form; its prompts' revisions are shared with them and not to be changed."""
        prompts = [
            {"id": prompt.id, "revisions": [each.document for each in prompt.revisions]}
            for prompt in self.prompts
        ]
        return self._without_prompts() | {"prompts": prompts}

    def _without_prompts(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"prompts"})

    @classmethod
    def parse(cls, document: object, known: Iterable[Prompt] = ()) -> Self:
        """A Catalog from its JSON form; raises pydantic.ValidationError.

        Revisions that prompts of `known` hold with equal content are taken from there instead of being read again.
        """
        revisions = {(prompt.id, each.revision): each for prompt in known for each in prompt.revisions}
        if (
            not revisions
            or not isinstance(document, Mapping)
            or not isinstance(document.get("prompts"), list)
        ):
            return cls.model_validate(document)
        prompts = [_recognized(prompt, revisions) for prompt in document["prompts"]]
        return cls.model_validate({**document, "prompts": prompts})


def _recognized(prompt: object, known: Mapping[tuple[str, str], PromptRevision]) -> object:
    """The JSON form of a prompt with the revisions in it that are known; what has another shape is left as it is."""
    if not isinstance(prompt, Mapping) or not isinstance(prompt.get("revisions"), list):
        return prompt
    found = [_known(prompt.get("id"), item, known) for item in prompt["revisions"]]
    return {**prompt, "revisions": found}


def _known(of: object, item: object, known: Mapping[tuple[str, str], PromptRevision]) -> object:
    if not isinstance(item, Mapping) or not isinstance(of, str) or not isinstance(item.get("revision"), str):
        return item
    before = known.get((of, item["revision"]))
    return before if before is not None and before.document == item else item
