# SPDX-License-Identifier: Apache-2.0
"""What replicas say of the models they loaded, kept in Ray's own key-value store for the gateway.

`engine/app.py` publishes under the replica's own key, the gateway reads, makes one word of all replicas' and forgets
what is out of date; a model that is scaled to zero is not woken for it.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError
from ray.experimental import internal_kv

from lateen_api.gateway_report import Facts, agreed
from lateen_api.schema import SpecType

_log = logging.getLogger(__name__)
_NAMESPACE = "lateen"
_PREFIX = "lateen:facts:"
_PAUSES_SECONDS = (0.5, 2.0)
"""Between tries to publish: an adapter counts as loaded only when every replica has said so."""


class _Stored(SpecType):
    said_at: float
    facts: Facts


@dataclass(frozen=True)
class Record:
    """What one replica said last."""

    application: str
    replica: str
    said_at: float
    """Unix time, seconds, by the clock of the replica's node."""
    facts: Facts | None
    """None: it can't be read, for example that of another version."""


@dataclass(frozen=True)
class Living:
    """The replicas of one application, by Ray's unique ids."""

    serving: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    """Those that start or stop."""


@dataclass(frozen=True)
class Census:
    """The replicas of all applications."""

    replicas: Mapping[str, Living]
    """By application, the gateway's included."""
    asked_at: float
    """When Ray was asked, by this process's monotonic clock: of what was said later it knows nothing."""


@dataclass(frozen=True)
class Settled:
    """What records mean, given the replicas that live."""

    facts: Mapping[str, Facts]
    """By application: of all its replicas, as one."""
    gone: tuple[Record, ...]
    """Those to forget."""


async def publish(application: str, replica: str, facts: Facts) -> None:
    """Put a replica's facts in place of those it has. Nobody's request depends on them: what goes wrong is logged."""
    text = _Stored(said_at=time.time(), facts=facts).model_dump_json(by_alias=True)
    for pause in (*_PAUSES_SECONDS, None):
        try:
            await asyncio.to_thread(_put, _key(application, replica), text)
            return
        except Exception:  # noqa: BLE001 - facts are never worth a failure
            _log.warning("the facts of %s can't be published", application, exc_info=True)
        if pause is not None:
            await asyncio.sleep(pause)


async def read() -> list[Record]:
    """What all replicas of all applications said; raises what Ray raises."""
    return await asyncio.to_thread(_read)


async def forget(records: Iterable[Record]) -> None:
    """Delete records; gone is fine. Raises what Ray raises."""
    await asyncio.to_thread(_forget, [_key(record.application, record.replica) for record in records])


def settled(records: Iterable[Record], living: Mapping[str, Living]) -> Settled:
    """One word for each application, of the replicas that serve.

    A replica that `living` does not know is gone, and so is an application that it does not know, if `living` was asked for
    after the records were read: else it may have started since, and nothing is to be forgotten. Of an application without a replica that serves the last word stays: it
    tells how long a start takes, and which adapters the next replica can load.
    """
    by_application: dict[str, list[Record]] = {}
    for record in records:
        by_application.setdefault(record.application, []).append(record)
    words: dict[str, Facts] = {}
    gone: list[Record] = []
    for application, said in by_application.items():
        lives = living.get(application)
        if lives is None:
            gone += said
            continue
        word, kept = _word(said, lives)
        if word is not None:
            words[application] = word
        all_living = lives.serving | lives.others | kept
        gone += [record for record in said if record.replica not in all_living]
    return Settled(words, tuple(gone))


def _word(said: list[Record], lives: Living) -> tuple[Facts | None, frozenset[str]]:
    """The word of an application, and the replicas to keep for it though they may be gone."""
    readable = [(record.said_at, record.replica, record.facts) for record in said if record.facts is not None]
    if not readable:
        return None, frozenset()
    if not lives.serving:
        _, replica, last = max(readable, key=lambda each: each[:2])
        return last, frozenset({replica})
    heard = [
        facts for _, replica, facts in sorted(readable, key=lambda each: each[1]) if replica in lives.serving
    ]
    if heard and len(heard) < len(lives.serving):  # one has not said that it has any adapter
        heard.append(heard[0].model_copy(update={"adapters": {}}))
    return (agreed(heard) if heard else None), frozenset()


def _key(application: str, replica: str) -> str:
    return f"{_PREFIX}{application}:{replica}"


def _read() -> list[Record]:
    """Two questions to Ray, however many records there are: every gateway asks them every second."""
    keys = internal_kv._internal_kv_list(_PREFIX, namespace=_NAMESPACE)
    if not keys:
        return []
    client = internal_kv.internal_kv_get_gcs_client()  # type: ignore[no-untyped-call]  # Ray's, without types
    stored = client.internal_kv_multi_get(keys, _NAMESPACE.encode())
    found = []
    for key in keys:
        application, _, replica = key.decode().removeprefix(_PREFIX).partition(":")
        if key in stored:
            found.append(_record(application, replica, stored[key]))
    return found


def _record(application: str, replica: str, text: bytes) -> Record:
    try:
        stored = _Stored.model_validate_json(text)
    except ValidationError:
        return Record(application, replica, 0.0, None)
    return Record(application, replica, stored.said_at, stored.facts)


def _put(key: str, value: str) -> None:
    internal_kv._internal_kv_put(key, value, namespace=_NAMESPACE)


def _forget(keys: list[str]) -> None:
    for key in keys:
        internal_kv._internal_kv_del(key, namespace=_NAMESPACE)
