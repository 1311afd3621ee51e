# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/embeddings`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import WHOLE, RequestBody, text_list
from lateen_serving.gateway.requests.bounds import Label, Name

_Text = Annotated[str, Field(min_length=1)]
_Texts = Annotated[list[_Text], Field(min_length=1, max_length=2048)]


def _inputs(value: Any) -> Any:
    value = text_list(value)
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise PydanticCustomError(
            "unsupported_value", "Token arrays are not supported: 'input' must be text."
        )
    return value


class EmbeddingsRequest(RequestBody):
    """`POST /v1/embeddings`."""

    model: Name
    input: Annotated[_Texts, BeforeValidator(_inputs, json_schema_input_type=_Text | _Texts)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1), WHOLE] | None = None
    """Refused unless it is what the model has."""

    user: Label | None = None
