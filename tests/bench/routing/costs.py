# SPDX-License-Identifier: Apache-2.0
"""What an engine costs, as measured. `costs.json` beside this file says where the numbers come from; put others there."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Costs(BaseModel):
    """Costs and bounds of one replica. A step of the engine takes `step_ms + row_ms * rows + prefill_ms_per_token * tokens`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    comment: str
    """Where the numbers come from."""
    step_ms: float = Field(gt=0)
    """A step that does nothing."""
    row_ms: float = Field(ge=0)
    """For each request that gets a token in the step."""
    prefill_ms_per_token: float = Field(ge=0)
    """For each token of a prompt read in the step."""
    prefill_tokens_per_step: int = Field(gt=0)
    """Most tokens of prompts read in one step."""
    block_tokens: int = Field(gt=0)
    """The prefix cache knows whole blocks of this size."""
    cache_tokens: int = Field(ge=0)
    """Size of the prefix cache; 0: an engine without one."""
    max_ongoing: int = Field(gt=0)
    """Most requests at the same time."""
    failure_ms: float = Field(ge=0)
    """After this time a failing replica answers with an error."""


def measured() -> Costs:
    """The costs in `costs.json`."""
    return Costs.model_validate(json.loads(Path(__file__).with_name("costs.json").read_text()))
