# SPDX-License-Identifier: Apache-2.0
"""Whether a built collection may take the queries, and whether it is worth trying again. Pure; called by `reconcile/`."""

from typing import get_args

from lateen_api.index_build import BuildReport, SourceFailureReason
from lateen_operator.status import unix

SOURCE_FAILURES = frozenset(get_args(SourceFailureReason))


def may_go_live(build: BuildReport, *, replaces: bool) -> bool:
    """Whether the alias may move to a built collection: never to less than is already live because a source is down."""
    if replaces:
        return not any(failure.reason in SOURCE_FAILURES for failure in build.failures)
    return build.documents > 0 or build.failed == 0


def retry_due(build: BuildReport, now: float, unready_for: float) -> bool:
    """Whether sources that could not be read should be tried again: after 5 s, then ever less often, at most 5 min."""
    if not any(failure.reason in SOURCE_FAILURES for failure in build.failures):
        return False
    return now - unix(build.finished_at) >= min(max(5.0, unready_for / 2), 300.0)
