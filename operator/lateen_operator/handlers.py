# SPDX-License-Identifier: Apache-2.0
"""What kopf calls, and how kopf is set up; no logic. Wired by `main.py`.

Only low-level event handlers: kopf then writes nothing at all, neither annotations nor finalizers, and no state of
its own decides what is reconciled. They are coroutines, for kopf runs anything else in a thread pool, and cache and
queue belong to the loop.
"""

import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import kopf

from lateen_api import names
from lateen_operator.seams import Kind

OnEvent = Callable[[Kind, str | None, dict[str, Any]], None]
"""Told of kind, change and object of each watch event."""

_BACKOFFS = (0.5, 1, 2, 4)
_LAST_BACKOFF = 8.0


class Backoffs:
    """Pauses between attempts at a failing request: growing, then level, with jitter, without end.

    An API server that is away for long must not end the process; `/healthz` says so instead.
    """

    def __iter__(self) -> Iterator[float]:
        for seconds in itertools.chain(_BACKOFFS, itertools.repeat(_LAST_BACKOFF)):
            yield seconds * random.uniform(0.75, 1.25)  # noqa: S311  # spreads load, guards nothing


def registry(on_event: OnEvent) -> kopf.OperatorRegistry:
    """The handlers of all kinds."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        """Access as in `cluster.py`: `KUBECONFIG`, else the pod's service account, else the default kubeconfig."""
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            return kopf.login_with_service_account(**kwargs)
        return kopf.login_with_kubeconfig(**kwargs)

    for kind in Kind:

        @kopf.on.event(names.GROUP, names.VERSION, kind.plural, registry=handlers, param=kind)
        async def seen(*, param: Any = kind, type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002  # kopf's name
            """Pass a watch event on."""
            on_event(param, type, dict(body))

    return handlers


def settings() -> kopf.OperatorSettings:
    """Kopf's settings: nothing is posted, peered or kept; silent watches are renewed."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.persistence.finalizer = f"{names.GROUP}/kopf-finalizer"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=names.GROUP)
    chosen.watching.connect_timeout = 5
    chosen.watching.server_timeout = 300
    chosen.watching.inactivity_timeout = 70
    chosen.watching.chunk_size = 500
    chosen.networking.connect_timeout = 5
    chosen.networking.request_timeout = 30
    chosen.networking.error_backoffs = Backoffs()
    return chosen
