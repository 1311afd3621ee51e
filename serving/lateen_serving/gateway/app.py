# SPDX-License-Identifier: Apache-2.0
"""The gateway as a Ray Serve application. Wiring only; imported by Ray Serve through `serve_config.GATEWAY_IMPORT_PATH`."""

import asyncio
import sys
from typing import Any

from ray import serve
from starlette.applications import Starlette

from lateen_api import names
from lateen_api.prompts import value_rules
from lateen_api.serve_config import GATEWAY_RAY_ONGOING_REQUESTS
from lateen_serving.gateway import ingress, logs
from lateen_serving.gateway.context import Service
from lateen_serving.gateway.handles import RayModels
from lateen_serving.gateway.metrics import Metrics
from lateen_serving.gateway.ray_replicas import RayReplicas
from lateen_serving.gateway.replicas import Replicas
from lateen_serving.gateway.state import GatewayState
from lateen_serving.rag.retrieve import Retriever
from lateen_serving.rag.uploads import Uploads
from lateen_serving.settings import ServingSettings


class Gateway:
    """One replica. The web application is built in the replica, so that nothing of it is pickled or shared."""

    def __init__(self) -> None:
        value_rules.load_cel()
        replica = serve.get_replica_context().replica_tag
        # Ray Serve replaces sys.stdout by its own logger, which holds lines back until it has a thousand.
        log = logs.logger(sys.__stdout__ or sys.stdout, replica=replica)
        self._state = GatewayState(log)
        settings = ServingSettings()
        self._retriever = Retriever(settings)
        self._models = RayModels()
        self._service = Service(
            state=self._state,
            caller=self._models,
            searcher=self._retriever,
            uploads=Uploads(settings),
            largest_file=settings.file_bytes,
            metrics=Metrics(replica),
            log=log,
            pause=asyncio.sleep,
            replicas=Replicas(RayReplicas(), log),
            report_token=settings.ray_auth_token,
            echoes_request_id=False,  # Ray Serve does, and a second header would be joined to the first
        )

    def __serve_build_asgi_app__(self) -> Starlette:
        """The web application; Ray Serve calls this once, after the constructor."""
        return ingress.create(self._service)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take the catalog in `user_config`; never raises."""
        await self._state.take(user_config)
        current = self._state.current
        self._models.keep(current.strategies())
        self._service.metrics.models.keep(current.revisions())
        self._service.metrics.keep_prompts(current.prompts)


def build(args: dict[str, Any]) -> serve.Application:
    """The application; it takes no arguments, its configuration is the deployment's `user_config`."""
    if args:
        raise ValueError(f"the gateway takes no arguments: {', '.join(sorted(args))}")
    options = serve.deployment(
        name=names.GATEWAY_DEPLOYMENT, max_ongoing_requests=GATEWAY_RAY_ONGOING_REQUESTS
    )
    deployment = options(serve.ingress()(Gateway))
    application: serve.Application = deployment.bind()
    return application
