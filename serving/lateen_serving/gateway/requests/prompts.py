# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/prompts/{id}/render`."""

from typing import Annotated

from pydantic import Field

from lateen_serving.gateway.fields import RequestBody
from lateen_serving.gateway.requests.bounds import Metadata, Name
from lateen_serving.gateway.requests.messages import Message
from lateen_serving.gateway.requests.responses import PromptReference, PromptVariables, PromptVersion


class RenderRequest(RequestBody):
    """What a prompt would become with these variables."""

    version: PromptVersion | None = None
    """Author's label of an older revision; default: the live one."""

    model: Name | None = None
    """Model that would read it: its tokens are counted, and what does not fit the context window is cut."""

    variables: PromptVariables = Field(default={})
    messages: Annotated[list[Message], Field(max_length=2048)] = Field(default=[])
    """The caller's conversation; it comes after the prompt's messages."""

    metadata: Metadata | None = None
    """For variables that come from it."""

    def reference(self, prompt_id: str) -> PromptReference:
        """The same as a request that generates would say it."""
        return PromptReference(id=prompt_id, version=self.version, variables=self.variables)
