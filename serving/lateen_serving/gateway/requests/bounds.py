# SPDX-License-Identifier: Apache-2.0
"""Types of fields that several bodies have, with their bounds. Used by the modules beside it."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from lateen_serving.gateway.fields import WHOLE, text_list

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
Tokens = Annotated[int, Field(ge=1, le=1_048_576), WHOLE]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
TopK = Annotated[int, Field(ge=0, le=1_048_576), WHOLE]
MinP = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1), WHOLE]
TopLogprobs = Annotated[int, Field(ge=0, le=20), WHOLE]
Choices = Annotated[int, Field(ge=1, le=8), WHOLE]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
Stop = Annotated[
    list[StopText],
    BeforeValidator(
        text_list, json_schema_input_type=StopText | Annotated[list[StopText], Field(max_length=4)]
    ),
    Field(max_length=4),
]
QUERY_CHARACTERS = 65536
"""Longest text that is searched for."""
Query = Annotated[str, Field(min_length=1, max_length=QUERY_CHARACTERS)]
Results = Annotated[int, Field(ge=1, le=50), WHOLE]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Label = Annotated[str, Field(max_length=512)]

_TokenId = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,6})$")]
_Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
LogitBias = Annotated[
    dict[_TokenId, _Bias], Field(max_length=1024, json_schema_extra={"additionalProperties": False})
]
"""Biases by token id, as text: JSON has no other keys."""

LABELS: Mapping[str, Sequence[object]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
}
"""Neutral values of fields that every generation endpoint has."""
