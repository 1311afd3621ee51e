# SPDX-License-Identifier: Apache-2.0
"""Filters in Weaviate's words. Pure; called by `store.py`."""

from typing import Any

from weaviate.classes.query import Filter as Condition

from lateen_serving.rag.attributes import Compound, Filter, terms

TAGS = "tags"
"""The property that holds the tags of a passage."""

_NEVER = '["",""]'
"""A tag that no passage has."""


def where(wanted: Filter) -> Any:
    """A condition of the Weaviate client; `Any` because the client gives its conditions no public type."""
    if isinstance(wanted, Compound):
        parts = [where(part) for part in wanted.filters]
        return Condition.all_of(parts) if wanted.operator == "and" else Condition.any_of(parts)
    found = terms(wanted)
    looked_for = found.tags or [_NEVER]
    tags = Condition.by_property(TAGS)
    return tags.contains_none(looked_for) if found.negated else tags.contains_any(looked_for)
