# SPDX-License-Identifier: Apache-2.0
"""What a replica says of the model it loaded, kept in Ray's own key-value store for the gateway.

`engine/app.py` publishes, the gateway reads; a model that is scaled to zero is not woken for it. Nobody's request
depends on these facts, so nothing here raises: what goes wrong is logged.
"""

import asyncio
import logging

from ray.experimental import internal_kv

from lateen_api.gateway_report import Facts

_log = logging.getLogger(__name__)
_NAMESPACE = "lateen"


def _key(application: str) -> str:
    return f"lateen:facts:{application}"


async def publish(application: str, facts: Facts) -> None:
    """Put the facts of an application in place of those it has."""
    try:
        await asyncio.to_thread(_put, _key(application), facts.model_dump_json(by_alias=True))
    except Exception:  # noqa: BLE001 - facts are never worth a failure
        _log.warning("the facts of %s can't be published", application, exc_info=True)


async def read(application: str) -> Facts | None:
    """The facts of an application; None when no replica has said any or they can't be read."""
    try:
        text = await asyncio.to_thread(_get, _key(application))
        return None if text is None else Facts.model_validate_json(text)
    except Exception:  # noqa: BLE001 - facts are never worth a failure
        _log.warning("the facts of %s can't be read", application, exc_info=True)
        return None


def _put(key: str, value: str) -> None:
    internal_kv._internal_kv_put(key, value, namespace=_NAMESPACE)


def _get(key: str) -> bytes | None:
    value: bytes | None = internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
    return value
