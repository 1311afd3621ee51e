# SPDX-License-Identifier: Apache-2.0
"""The base of every spec type, and the bounded scalars they share.

`hack/generate` turns these pydantic types into the structural schemas of the CRDs: descriptions become field docs,
constraints become OpenAPI, and `rule(...)` becomes CEL. The API server is where users meet them; pydantic checks
again when the operator reads an object, because an older CRD may still be installed.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """One CEL validation rule (`x-kubernetes-validations`): `expression` must hold, `message` is what the user reads."""
    return {"rule": expression, "message": message, **more}


def rules(*entries: dict[str, str]) -> dict[str, Any]:
    """`json_schema_extra` that attaches CEL rules to a type or a field."""
    return {"x-kubernetes-validations": list(entries)}


def matching(
    pattern: str, message: str, *more: dict[str, str], max_length: int, min_length: int | None = None
) -> Any:
    """A string field with `pattern`; `message` is what the user reads when a value does not match."""
    return Field(
        pattern=pattern,
        min_length=min_length,
        max_length=max_length,
        json_schema_extra=rules(rule(f"self.matches(r'{pattern}')", message), *more),
    )


def named_items(key: str = "name") -> dict[str, Any]:
    """`json_schema_extra` of a list whose items are told apart by `key`: duplicates are refused."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def distinct_items() -> dict[str, Any]:
    """`json_schema_extra` of a list of scalars without duplicates."""
    return {"x-kubernetes-list-type": "set"}


RESOURCE_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"
MAX_NAME_LENGTH = 40

ResourceName = Annotated[
    str,
    matching(
        RESOURCE_NAME_PATTERN,
        "must be the name of a resource: at most 40 lower-case letters, digits and '-', no dots",
        max_length=MAX_NAME_LENGTH,
    ),
]
"""Name of another resource in the same namespace: a DNS label of at most 40 characters."""

ItemName = Annotated[
    str,
    matching(
        r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        "must be at most 63 lower-case letters, digits and '-', such as handbook",
        max_length=63,
    ),
]
"""Name of an item of a list, unique within it: a DNS label."""


MAX_NESTING = 64
"""Levels of lists and objects in free JSON."""


def is_shallow(value: Any) -> bool:
    """Whether a JSON value has at most `MAX_NESTING` levels: deeper ones end what walks through them by recursion."""
    level = [value]
    for _ in range(MAX_NESTING):
        level = [
            child
            for part in level
            if isinstance(part, dict | list)
            for child in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return True
    return not any(isinstance(part, dict | list) for part in level)


def _shallow(value: dict[str, Any]) -> dict[str, Any]:
    if not is_shallow(value):
        raise ValueError(f"is nested more than {MAX_NESTING} levels deep")
    return value


JsonObject = Annotated[
    dict[str, Any],
    Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
    AfterValidator(_shallow),
]
"""Free JSON of at most `MAX_NESTING` levels, such as a JSON Schema; whoever reads it bounds its size."""


class SpecType(BaseModel):
    """Base of all spec types: camelCase outside, snake_case inside, unknown fields refused, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def dump(self) -> dict[str, Any]:
        """The value as a user would write it: camelCase keys, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ModelReference(SpecType):
    """Points at a ModelDeployment of the same namespace."""

    name: ResourceName
    """Name of the ModelDeployment."""


class IndexReference(SpecType):
    """Points at a RAGIndex of the same namespace."""

    name: ResourceName
    """Name of the RAGIndex."""
