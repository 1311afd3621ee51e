# SPDX-License-Identifier: Apache-2.0
"""The last step of every reconcile: post Events and write the status, only when it says something new."""

from lateen_operator import status
from lateen_operator.seams import Cluster, Resource, Wish


async def tell(cluster: Cluster, resource: Resource, report: status.Report, now: float) -> Wish:
    """Publish `report`; returns when the resource wants to be looked at again."""
    document = status.document(resource, report, now)
    if document != resource.status:
        for event in status.events(resource, report):
            await cluster.post_event(resource, event)
        await cluster.apply_status(resource, document)
    return report.again
