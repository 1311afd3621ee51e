# SPDX-License-Identifier: Apache-2.0
"""`GET /internal/report`: what this replica tells the operator. Called by `ingress.py`.

Clients' keys don't open it, Ray's token does; a gateway without one has no such route.
"""

import hmac

from starlette.responses import Response

from lateen_api.gateway_report import REPORT_PATH, GatewayReport
from lateen_serving.errors import AuthenticationError
from lateen_serving.gateway import replies
from lateen_serving.gateway.context import Service


async def report(service: Service, authorization: str | None) -> Response:
    """The report as JSON; raises replies.RouteError (404) without a token, AuthenticationError for a wrong one."""
    _authenticate(service, authorization)
    snapshot = service.state.current
    document = GatewayReport(
        replica=service.metrics.replica,
        catalog=snapshot.revision,
        facts=dict(await service.replicas.facts()),
        traffic=service.state.traffic.traffic(),
        prompt_uses=service.state.uses.last(),
    )
    return replies.json_response(document.dump())


def _authenticate(service: Service, authorization: str | None) -> None:
    token = service.report_token.get_secret_value()
    if not token:
        raise replies.unknown_url("GET", REPORT_PATH)
    scheme, _, given = (authorization or "").partition(" ")
    # Bytes, because hmac compares only text of ASCII.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise AuthenticationError("This route is for the operator.")
