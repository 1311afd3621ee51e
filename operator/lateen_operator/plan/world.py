# SPDX-License-Identifier: Apache-2.0
"""The world as one reconcile pass observes it. Pure values; made by `reconcile/convergence.py`, read by all plans."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from lateen_api import names
from lateen_api.catalog import Catalog, Prompt
from lateen_operator.plan import prompt_includes
from lateen_operator.plan.prompt_revisions import Kept
from lateen_operator.plan.reading import Reader
from lateen_operator.seams import Resource, ServeState, StoredRevision, StoreState

PLACEMENT_SECONDS = 30.0
"""A process takes seconds to start where there is room."""


@dataclass(frozen=True)
class ServingOptions:
    """How the gateway is to be run, and how patient everybody is with Ray."""

    host: str = "127.0.0.1"
    port: int = 8000
    gateway_replicas: int = 1
    gateway_url: str = ""
    """Base URL of the API as clients reach it; empty: not known."""
    placement_seconds: float = PLACEMENT_SECONDS
    """How long a replica may wait for a node before no node has room."""


@dataclass(frozen=True)
class World:
    """Everything the plans look at, observed at one moment."""

    models: tuple[Resource, ...] = ()
    prompts: tuple[Resource, ...] = ()
    indexes: tuple[Resource, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    """Digest of each client key by name."""
    revisions: Mapping[tuple[str, str], tuple[StoredRevision, ...]] = field(default_factory=dict)
    """Stored revisions by namespace and uid of their owner, newest first; `kept` tells those of a resource."""
    serve: ServeState = field(default_factory=ServeState)
    store: StoreState = field(default_factory=StoreState)
    missing_secrets: frozenset[tuple[str, str]] = frozenset()
    """Namespace and name of the Secrets that specs refer to and nobody has made."""
    gateway_url: str = ""
    """Base URL of the API as clients reach it; empty: not known."""
    placement_seconds: float = PLACEMENT_SECONDS
    """How long a replica may wait for a node before no node has room."""
    now: float = 0.0
    """Unix time, seconds."""
    reader: Reader = field(default_factory=Reader, compare=False)
    """Remembers what was read in earlier passes."""

    def kept(self, resource: Resource) -> tuple[StoredRevision, ...]:
        """The stored revisions of `resource`, newest first."""
        return self.revisions.get((resource.key.namespace, resource.uid), ())

    @cached_property
    def deployed_text(self) -> str:
        """The catalog of the last applied Serve config, packed; empty when there is none."""
        gateway = self.serve.applications.get(names.GATEWAY_APPLICATION)
        deployments = (gateway.config or {}).get("deployments") or [] if gateway is not None else []
        for deployment in deployments:
            text = (deployment.get("user_config") or {}).get("catalog")
            if deployment.get("name") == names.GATEWAY_DEPLOYMENT and isinstance(text, str):
                return text
        return ""

    @cached_property
    def deployed_catalog(self) -> Catalog | None:
        """The same, read; None when there is none that this version can read."""
        return self.reader.catalog(self.deployed_text) if self.deployed_text else None

    @cached_property
    def prompt_history(self) -> Mapping[str, tuple[Kept, ...]]:
        """Kept revisions of each PromptTemplate by its uid, newest first; without those that can't be read."""
        return {
            each.uid: tuple(kept for kept in map(self.reader.kept, self.kept(each)) if kept is not None)
            for each in self.prompts
        }

    @cached_property
    def pinned_prompts(self) -> Mapping[tuple[str, str], frozenset[str]]:
        """Labels that other resources refer to, by namespace and name of the PromptTemplate."""
        return prompt_includes.pinned(self.prompts, self.prompt_history)

    @cached_property
    def deployed_prompts(self) -> Mapping[str, Prompt]:
        """The prompts of the last applied Serve config, by id."""
        return _by_id(self.deployed_catalog)

    @cached_property
    def served_catalog(self) -> Catalog | None:
        """The last applied catalog, once the gateway answers from it; None until then and while that is not known."""
        deployed = self.deployed_catalog
        is_served = deployed is not None and self.serve.served_catalogs == {deployed.revision}
        return deployed if is_served else None

    @cached_property
    def answering(self) -> Catalog | None:
        """The catalog that the gateway answers from right now; None while that is not known.

        While newer ones are on their way to it, it is an earlier one: what is live in it is live. Of those that replicas
        answer from it is the one that was applied first: they only go forward, so it never goes back, and what it
        has in common with the newest is live everywhere.
        """
        return self.served_catalog or self.reader.oldest(self.serve.served_catalogs)

    @cached_property
    def reachable(self) -> tuple[Catalog, ...] | None:
        """The catalogs that requests may meet from now on, from `answering` to the newest; None while that is not known."""
        if self.answering is None:
            return None
        return (self.answering, *self.reader.after(self.answering.revision))

    @property
    def is_gateway_down(self) -> bool:
        """Whether the gateway is absent or can't take the last applied catalog: nothing is to be waited for."""
        gateway = self.serve.applications.get(names.GATEWAY_APPLICATION)
        is_broken = gateway is None or gateway.status == "DEPLOY_FAILED"
        return is_broken and self.served_catalog is None

    @cached_property
    def served_prompts(self) -> Mapping[str, Prompt] | None:
        """The prompts that the gateway answers from right now, by id; None while that is not known."""
        return _by_id(self.answering) if self.answering is not None else None


def _by_id(document: Catalog | None) -> dict[str, Prompt]:
    return {prompt.id: prompt for prompt in document.prompts} if document is not None else {}
