# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/prompts/{id}/render`."""

from typing import Annotated

from pydantic import Field

from lateen_serving.gateway.fields import RequestBody
from lateen_serving.gateway.requests.bounds import Metadata
from lateen_serving.gateway.requests.messages import Message
from lateen_serving.gateway.requests.responses import PromptVariables, PromptVersion


class RenderRequest(RequestBody):
    """What a prompt would become with these variables."""

    version: PromptVersion | None = None
    """Author's label of an older revision; default: the live one."""

    variables: PromptVariables = Field(default={})
    messages: Annotated[list[Message], Field(max_length=2048)] = Field(default=[])
    """The caller's conversation; it comes after the prompt's messages."""

    metadata: Metadata | None = None
    """For variables that come from it."""
