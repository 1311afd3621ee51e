# SPDX-License-Identifier: Apache-2.0
"""What one gateway replica tells the operator at `GET /internal/report`: the catalog it serves, what replicas said of
their models, and how the traffic of each application goes.

The route asks for Ray's token (`Authorization: Bearer`), which both sides have; clients' keys don't open it.
"""

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


class Facts(SpecType):
    """What a replica said of the model it loaded."""

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

    adapters: dict[str, str] = Field(default={})
    """The LoRA adapters it was asked to have; the text is empty where the adapter answers, else it says why not."""


class Traffic(SpecType):
    """Requests that one gateway replica sent to one application since the application's `since` in the catalog, or
    since the replica started.
    """

    requests: int = 0
    """Requests that ended."""

    errors: int = 0
    """Those that failed by the model's fault: 5xx other than a full queue."""

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
    """By application, for those in the catalog whose replicas have said anything."""

    traffic: dict[str, Traffic] = Field(default={})
    """By application."""

    prompt_uses: dict[str, dict[str, int]] = Field(default={})
    """Unix time, seconds, of the last request that used a prompt's revision since the replica started: by the prompt's
    id, then by revision; for those in the catalog."""
