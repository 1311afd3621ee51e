# SPDX-License-Identifier: Apache-2.0
"""The last step of every reconcile: post Events and write the status, only when it says something new."""

from lateen_operator import status
from lateen_operator.cache import ResourceCache
from lateen_operator.seams import Cluster, Resource, Wish


class Reporter:
    """Tells the API server how resources stand."""

    def __init__(self, cluster: Cluster, cache: ResourceCache) -> None:
        self._cluster, self._cache = cluster, cache

    async def tell(self, resource: Resource, report: status.Report, now: float) -> Wish:
        """Publish `report`; returns when the resource wants to be looked at again."""
        document = status.document(resource, report, now)
        if document != resource.status:
            for event in status.events(resource, report):
                await self._cluster.post_event(resource, event)
            written = await self._cluster.apply_status(resource, document)
            if written is not None:
                self._cache.wrote_status(written)
        return report.again
