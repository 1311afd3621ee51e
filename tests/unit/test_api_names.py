# SPDX-License-Identifier: Apache-2.0
"""Names and revisions: the same on both sides, after every restart, for every legal resource."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen_api import names
from lateen_api.schema import RESOURCE_NAME_PATTERN

LABELS = st.from_regex(RESOURCE_NAME_PATTERN.replace("$", r"\Z"))
REVISIONS = st.text("0123456789abcdef", min_size=10, max_size=10)
UIDS = st.uuids().map(str)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
quick = settings(deadline=None, max_examples=60)


@quick
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_a_revision_does_not_depend_on_the_order_of_keys(content: dict[str, object]) -> None:
    """The API server returns keys in any order; the revision must not move."""
    backwards = dict(reversed(content.items()))
    assert names.revision(backwards) == names.revision(content)
    assert re.fullmatch(r"[0-9a-f]{10}", names.revision(content))


def test_a_revision_never_changes_between_releases() -> None:
    """A pinned value: another hash would rebuild every index and restart every model of every user."""
    assert names.revision({"a": [1, "ü", None], "b": {"c": True}}) == "5491ed95cb"


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1}, {"a": 2}), ({"a": 1}, {"a": "1"}), ({"a": 1}, {"b": 1}), ({"a": [1, 2]}, {"a": [2, 1]})],
)
def test_different_content_has_different_revisions(one: dict[str, object], other: dict[str, object]) -> None:
    """Values, types, keys and the order of lists count."""
    assert names.revision(one) != names.revision(other)


def test_the_default_namespace_is_left_out_of_client_ids() -> None:
    """The quickstart's model is called `smollm2`; elsewhere the namespace comes first."""
    assert names.client_id("default", "smollm2") == "smollm2"
    assert names.client_id("team-a", "smollm2") == "team-a.smollm2"


@quick
@given(LABELS, LABELS, LABELS, LABELS)
def test_two_resources_never_share_a_client_id(ns_1: str, name_1: str, ns_2: str, name_2: str) -> None:
    """Equal ids mean the same namespace and name."""
    same = names.client_id(ns_1, name_1) == names.client_id(ns_2, name_2)
    assert same == ((ns_1, name_1) == (ns_2, name_2))


@quick
@given(LABELS, LABELS, REVISIONS)
def test_an_application_tells_whose_it_is(namespace: str, name: str, revision: str) -> None:
    """The operator finds the owner of an application by its name alone."""
    application = names.application(namespace, name, revision)
    assert names.application_owner(application) == (namespace, name, revision)


@pytest.mark.parametrize("name", [names.GATEWAY_APPLICATION, "default", "a_b", "a_b_c_d", ""])
def test_other_applications_belong_to_nobody(name: str) -> None:
    """The gateway and what others deploy are never taken for a model."""
    assert names.application_owner(name) is None


@quick
@given(LABELS, LABELS, UIDS, REVISIONS)
def test_weaviate_takes_the_names_of_an_index(namespace: str, name: str, uid: str, revision: str) -> None:
    """Collections and aliases start with a capital letter, hold word characters only, and differ from each other."""
    collection = names.index_collection(namespace, name, uid, revision)
    found = [names.index_alias(namespace, name, uid), collection, names.ledger_collection(collection)]
    assert len(set(found)) == 3
    for one in found:
        assert re.fullmatch(r"[A-Z][_0-9A-Za-z]{0,254}", one)
        assert one.startswith(names.index_prefix(namespace, name, uid))


def test_an_index_created_again_gets_new_names() -> None:
    """A deleted and recreated index must not find its predecessor's chunks: the uid is in the name."""
    first = names.index_alias("default", "handbook", "165e9048-7857-4b22-a8e3-9b42ba87643d")
    second = names.index_alias("default", "handbook", "265e9048-7857-4b22-a8e3-9b42ba87643d")
    assert first != second


@quick
@given(st.text(string.printable, min_size=1))
def test_a_key_is_known_by_its_digest_only(key: str) -> None:
    """64 hex digits that do not contain the key."""
    assert re.fullmatch(r"[0-9a-f]{64}", names.key_digest(key))
