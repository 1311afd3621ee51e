# SPDX-License-Identifier: Apache-2.0
"""What passes remember of documents they have read: never more than the documents say."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from lateen_api.catalog import ApiKey, Catalog, Prompt
from lateen_api.packing import pack
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_operator.plan import prompt_revisions
from lateen_operator.plan.reading import REMEMBERED_CATALOGS, Reader
from lateen_operator.seams import Kind, StoredRevision
from unit.operator_fakes import FakeWorld
from unit.operator_specs import prompt

STORED = StoredRevision("answer-1", "u1", 1, "abc", {"spec": prompt("1")}, 60, resource_version="1")


def test_a_revision_is_read_once() -> None:
    """The same object of the cache gives the same result, down to what the gateway is told."""
    reader = Reader()
    kept = reader.kept(STORED)
    assert kept is not None
    assert reader.kept(STORED) is kept
    assert kept.entry.document is kept.entry.document
    assert kept == prompt_revisions.read(STORED)


def test_a_note_on_a_revision_is_seen_without_reading_it_again() -> None:
    """Number and use are those of the latest state; content and the gateway's entry stay the same object."""
    reader = Reader()
    before = reader.kept(STORED)
    after = reader.kept(replace(STORED, number=7, used=99, resource_version="2"))
    assert before is not None
    assert after is not None
    assert (after.stored.number, after.stored.used) == (7, 99)
    assert after.spec is before.spec
    assert after.entry is before.entry


def test_a_namesake_with_other_content_is_read_anew() -> None:
    """A revision that was deleted and written again may hold something else, or nothing that can be read."""
    reader = Reader()
    reader.kept(STORED)
    other = reader.kept(replace(STORED, data={"spec": prompt("2")}, created=70))
    assert other is not None
    assert other.spec.version == "2"
    assert (other.entry.spec.version, other.entry.created) == ("2", 70)
    assert reader.kept(replace(STORED, data={"spec": {"version": 3}})) is None


def test_a_present_spec_is_read_again_when_it_changes() -> None:
    """An equal spec in another object, as after a change of the status, is not."""
    reader, world = Reader(), FakeWorld()
    first = reader.prompt(world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("1")))
    assert reader.prompt(world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("1"))) is first
    second = reader.prompt(world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2")))
    assert second.revision == PromptTemplateSpec.model_validate(prompt("2")).revision()
    with pytest.raises(ValidationError):
        reader.prompt(world.put(Kind.PROMPT_TEMPLATE, "answer", {"version": 1}))


def test_what_is_gone_is_forgotten() -> None:
    """The memory holds what the last pass listed, not all that ever was."""
    reader, world = Reader(), FakeWorld()
    kept = reader.kept(STORED)
    resource = world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("1"))
    read = reader.prompt(resource)
    reader.limit([resource], [STORED])
    assert reader.kept(STORED) is kept
    assert reader.prompt(resource) is read
    reader.limit([], [])
    assert reader.kept(STORED) is not kept
    assert reader.prompt(resource) is not read


def test_a_catalog_is_read_once_and_its_hash_follows_every_part() -> None:
    """What Ray says is compared with what was read last; an unreadable catalog counts as none."""
    reader, kept = Reader(), prompt_revisions.read(STORED)
    assert kept is not None
    sent = Catalog(prompts=[Prompt(id="answer", revisions=[kept.entry])])
    reader.applied(pack(sent.dump()), sent)
    assert reader.catalog(pack(Catalog.parse(sent.dump()).dump())) is sent
    changed = replace(kept, expanded=PromptTemplateSpec.model_validate(prompt("1", "{question}!")))
    other = Catalog(prompts=[Prompt(id="answer", revisions=[changed.entry])])
    assert other.revision != sent.revision
    assert reader.catalog(pack(other.dump())) == other
    assert Catalog.parse(other.dump()).revision == other.revision
    assert reader.catalog(pack({"schemaVersion": 2})) is None
    assert reader.catalog("of another version") is None


def test_catalogs_that_were_given_to_ray_lately_are_remembered() -> None:
    """A gateway that is some catalogs behind says what is live in its own; the memory is bounded."""
    reader = Reader()
    catalogs = [
        Catalog(keys=[ApiKey(name=f"k{number}", digest="0" * 64)])
        for number in range(REMEMBERED_CATALOGS + 1)
    ]
    for each in catalogs:
        reader.applied(pack(each.dump()), each)
    assert reader.oldest([catalogs[1].revision]) is catalogs[1]
    assert reader.oldest([catalogs[0].revision]) is None
