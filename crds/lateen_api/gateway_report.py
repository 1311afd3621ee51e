# SPDX-License-Identifier: Apache-2.0
"""What one gateway replica tells the operator at `GET /internal/report`: the catalog it serves, what replicas said of
their models, and how the traffic of each application goes.

The route asks for Ray's token (`Authorization: Bearer`), which both sides have; clients' keys don't open it.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from lateen_api.schema import SpecType

REPORT_PATH = "/internal/report"

LATENCY_BOUNDS = (
    0.05,
    0.1,
    0.2,
    0.3,
    0.5,
    0.75,
    1.0,
    1.5,
    2.0,
    3.0,
    5.0,
    7.5,
    10.0,
    15.0,
    20.0,
    30.0,
    60.0,
    120.0,
)
"""Upper bounds in seconds of the latency buckets; one more bucket takes everything beyond."""


class AdapterFact(SpecType):
    """What a replica said of a LoRA adapter it was asked to have."""

    identity: str
    """`AdapterArguments.identity` of what it was asked for; empty where replicas of one model differ."""

    reason: str = ""
    """Why it doesn't answer, as a word of `conditions.Reason`; empty where it does."""

    message: str = ""
    """The same for people."""


class Facts(SpecType):
    """What a replica said of the model it loaded, or what all replicas of an application said, as one."""

    parameters: int
    """Number of parameters."""

    context_tokens: int
    """Longest sequence in tokens."""

    dtype: str
    """Number format of the weights."""

    memory_bytes: int
    """Memory of the replica's process once the weights are loaded."""

    load_seconds: float
    """From the start of the replica's process until it could serve."""

    engine: str
    """`transformers` or `vllm`."""

    engine_reason: str
    """Why this engine was chosen."""

    adapters: dict[str, AdapterFact] = Field(default={})
    """The LoRA adapters it was asked to have and has tried to load, by name. Of several replicas: those that all of
    them have, and those that one of them could not load."""


def agreed(said: Sequence[Facts]) -> Facts:
    """The facts of several replicas (or reports), at least one, as one: figures of the first, adapters of all."""
    known = sorted({name for facts in said for name in facts.adapters})
    adapters = {name: _adapter([facts.adapters.get(name) for facts in said]) for name in known}
    found = {name: fact for name, fact in adapters.items() if fact is not None}
    return said[0].model_copy(update={"adapters": found})


def _adapter(said: Sequence[AdapterFact | None]) -> AdapterFact | None:
    """The first failure; None where one replica has not tried yet."""
    failed = next((fact for fact in said if fact is not None and fact.reason), None)
    if failed is not None:
        return failed
    if None in said:
        return None
    identities = {fact.identity for fact in said if fact is not None}
    return AdapterFact(identity=identities.pop() if len(identities) == 1 else "")


class Traffic(SpecType):
    """Requests that one gateway replica sent to one application since the application's `since` in the catalog, or
    since the replica started.
    """

    requests: int = 0
    """Requests that ended; one that another replica answered after the revision had failed counts a second time."""

    errors: int = 0
    """Those that failed for their client, other than by a full queue, and those that the revision failed unseen: its
    engine did, or a replica died under them."""

    latencies: Annotated[list[int], Field(max_length=len(LATENCY_BOUNDS) + 1)] = Field(default=[])
    """Requests by time to the first token (or to the reply, without a stream), one number per bucket of
    `LATENCY_BOUNDS`; empty before the first."""


class GatewayReport(SpecType):
    """All of it."""

    replica: str
    """Which gateway replica speaks."""

    catalog: str = ""
    """Revision of the catalog it serves; empty before the first."""

    facts: dict[str, Facts] = Field(default={})
    """By application, for all that have ever had a replica: also for those that the catalog does not name yet."""

    traffic: dict[str, Traffic] = Field(default={})
    """By application."""

    prompt_uses: dict[str, dict[str, int]] = Field(default={})
    """Unix time, seconds, of the last request that used a prompt's revision since the replica started: by the prompt's
    id, then by revision; for those in the catalog."""
