# SPDX-License-Identifier: Apache-2.0
"""What requests say of a retrieval: OpenAI's filters over attributes, and ranking options. Used by the modules beside it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import RequestBody, names
from lateen_serving.gateway.requests.bounds import Results
from lateen_serving.rag import attributes
from lateen_serving.rag.passages import Options

MAX_DEPTH = 4
"""Compound filters inside each other."""

MAX_COMPARISONS = 32

_COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")
_COMPOUNDS = ("and", "or")

_Text = Annotated[str, Field(max_length=512)]
_Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e308, le=1e308)]
_Value = _Text | bool | _Number


class ComparisonFilter(RequestBody):
    """A condition on one attribute. `ne` and `nin` also hold where the attribute is missing, the others don't."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: Annotated[str, Field(min_length=1, max_length=64)]
    value: _Value | Annotated[list[_Value], Field(min_length=1, max_length=64)]
    """A list for `in` and `nin`; a number for `gt`, `gte`, `lt`, `lte`."""

    @model_validator(mode="after")
    def _fitting_value(self) -> Self:
        is_list = isinstance(self.value, list)
        if is_list != (self.type in ("in", "nin")):
            raise PydanticCustomError("filter_value", "'in' and 'nin' take a list, the others one value")
        is_number = isinstance(self.value, float) and not isinstance(self.value, bool)
        if self.type in ("gt", "gte", "lt", "lte") and not is_number:
            raise PydanticCustomError("filter_value", "'gt', 'gte', 'lt' and 'lte' compare numbers")
        return self

    def condition(self) -> attributes.Comparison:
        """What it means."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return attributes.Comparison(self.key, self.type, tuple(values))


class CompoundFilter(RequestBody):
    """All (`and`) or any (`or`) of some conditions, at most 4 levels and 32 comparisons."""

    type: Literal["and", "or"]
    filters: Annotated[list["SearchFilter"], Field(min_length=1, max_length=MAX_COMPARISONS)]

    def condition(self) -> attributes.Compound:
        """What it means."""
        return attributes.Compound(self.type, tuple(each.condition() for each in self.filters))


def _known_kind(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if isinstance(kind, str) and kind not in _COMPARISONS + _COMPOUNDS:
        raise PydanticCustomError(
            "unsupported_value",
            "Unsupported filter '{kind}': the types are eq, ne, gt, gte, lt, lte, in, nin, and, or.",
            {"kind": kind[:64]},
        )
    return value


def _tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return "<compound>" if kind in _COMPOUNDS else "<comparison>"


def _bounded(value: Any) -> Any:
    """Refuse filters that are too deep or too many, before anything walks through them."""
    level, comparisons = [value], 0
    for _ in range(MAX_DEPTH + 1):
        inner = [each["filters"] for each in level if isinstance(each, Mapping) and "filters" in each]
        comparisons += len(level) - len(inner)
        level = [each for filters in inner if isinstance(filters, list) for each in filters]
    if level or comparisons > MAX_COMPARISONS:
        raise PydanticCustomError(
            "filter_bounds", "a filter has at most 4 levels of 'and' and 'or', and 32 comparisons"
        )
    return value


SearchFilter = Annotated[
    Annotated[ComparisonFilter, Tag("<comparison>")] | Annotated[CompoundFilter, Tag("<compound>")],
    Discriminator(_tag),
    BeforeValidator(_known_kind),
]
Filters = Annotated[SearchFilter, BeforeValidator(_bounded)]


class RankingOptions(RequestBody):
    """How the passages that were found are ranked."""

    openai_fields: ClassVar[frozenset[str]] = names("hybrid_search")

    ranker: Literal["auto", "none"] = "auto"
    """`none`: without the index's reranker."""

    score_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """Lowest score; default: the index's `retrieval.minScore`."""


class Retrieving(RequestBody):
    """The fields that a search of its own and `file_search` share."""

    max_num_results: Results | None = None
    """Passages in total; default: the index's `retrieval.limit`."""

    filters: Filters | None = None
    ranking_options: RankingOptions = Field(default=RankingOptions())

    def options(self) -> Options:
        """What it means."""
        return Options(
            limit=self.max_num_results,
            filter=self.filters.condition() if self.filters is not None else None,
            min_score=self.ranking_options.score_threshold,
            reranks=self.ranking_options.ranker == "auto",
        )


CompoundFilter.model_rebuild()
Retrieving.model_rebuild()
