# SPDX-License-Identifier: Apache-2.0
"""The entry point of reconciling: one resource in, the time of the next look out. Called by the work queue."""

from collections.abc import Callable
from pathlib import Path

from lateen_api.conditions import Reason
from lateen_operator.cache import ResourceCache
from lateen_operator.mirror import SecretsMirror
from lateen_operator.plan.world import ServingOptions
from lateen_operator.reconcile import models, prompts
from lateen_operator.reconcile.builds import Builds
from lateen_operator.reconcile.convergence import Convergence
from lateen_operator.reconcile.indexes import IndexReconciler
from lateen_operator.reconcile.reporting import Reporter
from lateen_operator.revisions import Revisions
from lateen_operator.seams import (
    Cluster,
    Key,
    Kind,
    RayUnavailable,
    Resource,
    Serve,
    Store,
    StoreUnavailable,
    Unavailable,
    Wish,
)
from lateen_operator.settings import OperatorSettings
from lateen_operator.status import Report, Verdict, ready_condition


class Reconciler:
    """Brings resources to their specs; level-triggered, safe to repeat, safe to kill at any moment."""

    def __init__(
        self,
        cluster: Cluster,
        serve: Serve,
        store: Store,
        cache: ResourceCache,
        revisions: Revisions,
        settings: OperatorSettings,
        clock: Callable[[], float],
        enqueue: Callable[[Key], None],
    ) -> None:
        options = ServingOptions(
            settings.gateway_host,
            settings.gateway_port,
            settings.gateway_replicas,
            settings.gateway_url.rstrip("/"),
            settings.placement_seconds,
        )
        self._cluster, self._cache, self._revisions, self._clock = cluster, cache, revisions, clock
        self._enqueue = enqueue
        self._reporter = Reporter(cluster, cache)
        mirror = SecretsMirror(Path(settings.secrets_folder)) if settings.secrets_folder else None
        self._convergence = Convergence(cluster, serve, store, cache, revisions, options, clock, mirror)
        self._indexes = IndexReconciler(
            cluster, store, revisions, Builds(cluster, serve, store), self._convergence, self._reporter
        )

    async def resync(self) -> None:
        """Compare the desired Serve config with the real one, also while there is no resource at all."""
        await self._convergence.run()

    async def reconcile(self, key: Key) -> Wish:
        """Bring one resource to its spec.

        Returns:
            When it wants to be looked at again.

        Raises:
            Unavailable: Ray, Weaviate or the API server did not answer; the status says so.
            Exception: What nobody foresaw; the status says that too.

        """
        resource = self._cache.get(key)
        if resource is None:
            await self._convergence.run()
            return None
        try:
            return await self._dispatch(resource)
        except RayUnavailable as error:
            await self._report_failure(resource, Reason.RAY_UNAVAILABLE, str(error))
            raise
        except StoreUnavailable as error:
            await self._report_failure(resource, Reason.STORE_UNAVAILABLE, str(error))
            raise
        except Unavailable:
            raise
        except Exception as error:
            # Its words are for the log alone: nobody knows what is in them.
            said = f"the operator fails at it with {type(error).__name__}, its log says where; it tries again"
            await self._report_failure(resource, Reason.INTERNAL_ERROR, said)
            raise

    async def _dispatch(self, resource: Resource) -> Wish:
        match resource.key.kind:
            case Kind.MODEL_DEPLOYMENT:
                return await models.reconcile(
                    resource, self._cluster, self._revisions, self._convergence, self._reporter
                )
            case Kind.PROMPT_TEMPLATE:
                return await prompts.reconcile(
                    resource, self._revisions, self._convergence, self._reporter, self._enqueue
                )
            case Kind.RAG_INDEX:
                return await self._indexes.reconcile(resource)

    async def _report_failure(self, resource: Resource, reason: Reason, message: str) -> None:
        # What serves goes on serving: Ready says "Unknown", and the fields of the last look stay.
        verdict = Verdict("Unknown", reason, message)
        known = {"observedGeneration", "conditions"}
        fields = {name: value for name, value in resource.status.items() if name not in known}
        if ready_condition(resource).get("reason") != reason.value:
            await self._reporter.tell(
                resource, Report(verdict, reconciling=True, fields=fields), self._clock()
            )
