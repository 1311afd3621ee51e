# SPDX-License-Identifier: Apache-2.0
"""First step: who calls. Called by `ingress.py` for every route but the probes."""

import hmac

from lateen_api import names
from lateen_serving.errors import AuthenticationError, Unavailable
from lateen_serving.gateway.context import RequestContext

_REMEDY = "Send your key as 'Authorization: Bearer KEY'."


def authenticate(context: RequestContext, authorization: str | None) -> None:
    """Fill `context.key_name` from the Authorization header.

    Raises:
        AuthenticationError: No key, or an unknown one; the same words for every wrong key.
        Unavailable: No catalog has arrived, so nobody is known yet.

    """
    if not context.snapshot.ready:
        raise Unavailable("The gateway is starting. Try again in a moment.", code="starting")
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise AuthenticationError(f"You didn't provide an API key. {_REMEDY}")
    digest = names.key_digest(key)
    found = ""
    # All keys are compared, each in constant time, so that the time tells nothing about any of them.
    for known in context.snapshot.keys:
        if hmac.compare_digest(known.digest, digest):
            found = known.name
    if not found:
        raise AuthenticationError(f"Incorrect API key provided. {_REMEDY}")
    context.key_name = found
