# SPDX-License-Identifier: Apache-2.0
"""PromptTemplates in the operator: versions, what is refused, what is kept and for how long, going back."""

from dataclasses import replace
from typing import Any

import pytest

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_operator.seams import Backoff, Key, Kind
from unit.operator_fakes import Crash, FakeOperator, FakeWorld, ready
from unit.operator_specs import PROMPT, catalog, prompt


async def applied(*specs: dict[str, Any]) -> tuple[FakeWorld, FakeOperator]:
    """A world in which these specs were applied one after the other, and the operator that followed."""
    world = FakeWorld()
    operator = FakeOperator(world)
    for spec in specs:
        world.put(Kind.PROMPT_TEMPLATE, "answer", spec)
        await operator.settle()
    return world, operator


def history(world: FakeWorld, key: Key = PROMPT) -> list[tuple[str, str]]:
    """Version and state of each listed revision."""
    listed = world.resources[key].status.get("history") or []
    return [(item["version"], item["state"]) for item in listed]


def message(world: FakeWorld, key: Key = PROMPT) -> str:
    """What the Ready condition says."""
    return str(world.resources[key].status["conditions"][0]["message"])


def versions(world: FakeWorld, number: int = 0) -> list[str]:
    """Versions that the gateway has of a prompt, the live one first."""
    return [each.spec.version for each in catalog(world).prompts[number].revisions]


async def test_the_status_lists_every_version_and_what_came_before_it() -> None:
    """Newest first, with the revision it replaced and which one callers get."""
    world, _ = await applied(prompt("1"), prompt("2", "Say: {question}"))
    first, second = (PromptTemplateSpec.model_validate(spec).revision()
                     for spec in (prompt("1"), prompt("2", "Say: {question}")))  # fmt: skip
    listed = world.resources[PROMPT].status["history"]
    assert [(item["revision"], item.get("previous")) for item in listed] == [(second, first), (first, None)]
    assert history(world) == [("2", "Live"), ("1", "Superseded")]
    assert versions(world) == ["2", "1"]


async def test_a_version_that_was_live_keeps_its_content() -> None:
    """The same label with other content is refused with the remedy; what was live answers on."""
    world, operator = await applied(prompt("1"), prompt("1", "Say: {question}"))
    assert ready(world, PROMPT) == ("False", "VersionImmutable")
    assert "allowVersionReuse" in message(world)
    assert "Version 1 stays live" in message(world)
    assert ("answer", "VersionImmutable") in world.events
    assert catalog(world).prompts[0].revisions[0].spec.messages[0].content == "Answer: {question}"
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say: {question}"))
    await operator.settle()
    assert ready(world, PROMPT) == ("True", "Ready")


async def test_a_revision_in_another_namespace_is_nobodys_history() -> None:
    """Whoever may write there can label one with this prompt's uid: it neither becomes live nor takes a label."""
    world, operator = await applied(prompt("1"))
    (own,) = world.stored
    data = {**own.data, "spec": prompt("9", "Obey: {question}"), "expanded": None}
    world.stored.append(
        replace(own, namespace="theirs", name="x", uid="x", number=9, revision="x", data=data)
    )
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say: {nothing}"))
    await operator.settle()
    assert ready(world, PROMPT) == ("False", "InvalidTemplate")
    assert versions(world) == ["1"]
    assert history(world) == [("1", "Live")]


async def test_a_version_may_be_reused_where_the_author_allows_it() -> None:
    """With allowVersionReuse the label names the newest content, and the older stays in the history."""
    world, _ = await applied(prompt("1"), prompt("1", "Say: {question}", allowVersionReuse=True))
    assert ready(world, PROMPT) == ("True", "Ready")
    assert catalog(world).prompts[0].revisions[0].spec.messages[0].content == "Say: {question}"
    assert history(world) == [("1", "Live"), ("1", "Superseded")]


async def test_a_broken_version_takes_no_label() -> None:
    """A spec that was refused was never live, so its label is free for the mended one."""
    world, _ = await applied(prompt("1"), prompt("2", "Say: {nothing}"), prompt("2", "Say: {question}"))
    assert ready(world, PROMPT) == ("True", "Ready")
    assert versions(world) == ["2", "1"]


async def test_going_back_uses_the_kept_revision_again() -> None:
    """The old YAML, applied again, is live without another ControllerRevision and without a pass in between."""
    world, operator = await applied(prompt("1"), prompt("2", "Say: {question}"))
    before = {item.name for item in world.stored}
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("1"))
    await operator.once()
    assert versions(world) == ["1", "2"]
    await operator.settle()
    assert {item.name for item in world.stored} == before
    assert history(world) == [("1", "Live"), ("2", "Superseded")]
    assert ("answer", "RolledOut") in world.events


async def test_a_restart_and_a_lost_status_change_nothing() -> None:
    """What is live and what is kept is read from the world, also while the present spec is refused."""
    world, operator = await applied(prompt("1"), prompt("2", "Say: {question}"), prompt("2", "{question}!"))
    served = catalog(world)
    world.resources[PROMPT] = world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "{question}!"), status={})
    operator.restart()
    await operator.settle()
    assert catalog(world) == served
    assert ready(world, PROMPT) == ("False", "VersionImmutable")
    assert history(world) == [("2", "Live"), ("1", "Superseded")]


async def test_a_deleted_record_of_the_live_revision_is_written_again() -> None:
    """Clients keep being answered by it meanwhile, and not by an older one."""
    world, operator = await applied(prompt("1"), prompt("2", "Say: {question}"))
    live = next(item for item in world.stored if item.number == 2)
    world.stored.remove(live)
    await operator.once()
    assert versions(world)[0] == "2"
    await operator.settle()
    assert live.name in {item.name for item in world.stored}
    assert versions(world) == ["2", "1"]


async def test_no_pass_lists_the_revisions() -> None:
    """Own writes are known to the next pass, so a new version, the way back and the steady state need no list."""
    world, operator = await applied(prompt("1"))
    lists = world.revision_lists
    for spec in (prompt("2", "Say: {question}"), prompt("1"), prompt("1")):
        operator.cache.put(
            world.put(Kind.PROMPT_TEMPLATE, "answer", spec, resource_version=str(world.version + 2))
        )
        await operator.reconcile_all()
        assert versions(world)[0] == spec["version"]
    assert sorted(versions(world)) == ["1", "2"]
    assert world.revision_lists == lists


async def test_the_history_is_bounded() -> None:
    """Only revisionHistoryLimit revisions stay, in the cluster as in the gateway."""
    specs = [prompt(str(number), f"{number} {{question}}", revisionHistoryLimit=3) for number in range(6)]
    world, _ = await applied(*specs)
    assert versions(world) == ["5", "4", "3"]
    assert sorted(item.data["spec"]["version"] for item in world.stored) == ["3", "4", "5"]


async def test_what_was_used_lately_stays_for_the_retention() -> None:
    """A use is noted on the revision, outlives the gateway's memory, and keeps it until the retention is over."""
    keep: dict[str, Any] = {"revisionHistoryLimit": 1, "retention": "4h"}
    world, operator = await applied(prompt("1", **keep))
    first = world.stored[0]
    world.prompt_uses = {"answer": {first.revision: int(world.now)}}
    await operator.settle()
    world.prompt_uses = {}
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say: {question}", **keep))
    await operator.settle()
    assert versions(world) == ["2", "1"]
    writes = len(world.writes)
    world.tick(3 * 3600)
    await operator.settle()
    assert versions(world) == ["2", "1"]
    assert len(world.writes) == writes
    world.tick(3 * 3600)
    await operator.settle()
    assert versions(world) == ["2"]
    assert [item.revision for item in world.stored] != [first.revision]


async def test_uses_cause_few_writes() -> None:
    """A busy prompt is noted at most once an hour."""
    world, operator = await applied(prompt("1", retention="24h"))
    for _ in range(12):
        world.now += 600
        world.prompt_uses = {"answer": {world.stored[0].revision: int(world.now)}}
        await operator.once()
    noted = [write for write in world.writes if write.startswith("use of ")]
    assert len(noted) == 2  # of two hours


async def test_a_suspended_prompt_keeps_what_is_live() -> None:
    """Changes wait, and come to life when suspend is false again."""
    world, operator = await applied(prompt("1"), prompt("2", "Say: {question}", suspend=True))
    assert ready(world, PROMPT) == ("True", "Suspended")
    assert versions(world) == ["1"]
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", "Say: {question}"))
    await operator.settle()
    assert versions(world) == ["2", "1"]


STYLE = Key(Kind.PROMPT_TEMPLATE, "default", "style")


def including(version: str, of: str, name: str = "style", **more: Any) -> dict[str, Any]:
    """Spec of a prompt that includes version `of` of another one before its own message."""
    messages = [{"include": {"name": name, "version": of}}, {"role": "user", "content": "{question}"}]
    return {"version": version, "messages": messages, "variables": [{"name": "question"}], **more}


def style(version: str, text: str, **more: Any) -> dict[str, Any]:
    """Spec of a prompt to be included."""
    return {"version": version, "messages": [{"role": "system", "content": text}], **more}


async def test_an_include_is_put_in_place_and_fixed_there() -> None:
    """It waits for what is missing, heals by itself, and later versions of the other don't reach it."""
    world, operator = await applied(including("1", "1"))
    assert ready(world, PROMPT) == ("False", "ReferenceNotFound")
    assert "style has no version '1'" in message(world)
    world.put(Kind.PROMPT_TEMPLATE, "style", style("1", "Be short."))
    await operator.settle()
    assert ready(world, PROMPT) == ("True", "Ready")
    world.put(Kind.PROMPT_TEMPLATE, "style", style("1", "Be long.", allowVersionReuse=True))
    await operator.settle()
    contents = [item.content for item in catalog(world).prompts[0].revisions[0].spec.messages]
    assert contents == ["Be short.", "{question}"]
    world.delete(STYLE)
    await operator.settle()
    assert ready(world, PROMPT) == ("True", "Ready")


async def test_who_waits_for_an_include_is_woken_by_it() -> None:
    """The moment the version is kept, those that include it are looked at, and no others."""
    world, operator = await applied(including("1", "1"))
    assert ready(world, PROMPT) == ("False", "ReferenceNotFound")
    world.put(Kind.PROMPT_TEMPLATE, "other", including("1", "2"))
    world.put(Kind.PROMPT_TEMPLATE, "style", style("1", "Be short."))
    operator.enqueued.clear()
    await operator.settle_rounds(3)
    assert operator.enqueued == [PROMPT]


async def test_who_waits_looks_ever_later_and_anew_after_a_change() -> None:
    """The wish stays the same while the same is missing, so that the queue can stretch it; it is never short."""
    world, operator = await applied(including("1", "1"))
    wishes = [await operator.reconciler.reconcile(PROMPT) for _ in range(2)]
    assert wishes[0] == wishes[1]
    assert isinstance(wishes[0], Backoff)
    assert (wishes[0].first, wishes[0].longest) == (1.0, 30.0)
    operator.cache.put(world.put(Kind.PROMPT_TEMPLATE, "answer", including("1", "2"), resource_version="2"))
    assert await operator.reconciler.reconcile(PROMPT) not in (None, wishes[0])


async def test_what_a_live_prompt_includes_is_kept() -> None:
    """The included revision stays beyond the history of its own template, and goes once nobody includes it."""
    world, operator = await applied()
    world.put(Kind.PROMPT_TEMPLATE, "style", style("1", "Be short.", revisionHistoryLimit=1))
    await operator.settle()
    world.put(Kind.PROMPT_TEMPLATE, "answer", including("1", "1"))
    await operator.settle()
    world.put(Kind.PROMPT_TEMPLATE, "style", style("2", "Be long.", revisionHistoryLimit=1))
    await operator.settle()
    assert versions(world, 1) == ["2", "1"]
    world.put(Kind.PROMPT_TEMPLATE, "answer", including("2", "2"))
    await operator.settle()
    assert versions(world, 1) == ["2"]


async def test_what_is_too_large_to_be_kept_is_refused_with_the_sizes() -> None:
    """Nothing is written for it, the live version stays, and it says how much is too much."""
    world, operator = await applied(prompt("1"))
    text = [{"role": "system", "content": "ä" * 16384} for _ in range(31)]
    world.put(Kind.PROMPT_TEMPLATE, "style", {"version": "1", "messages": text})
    await operator.settle()
    writes = [write for write in world.writes if write.startswith("revision ")]
    turns = [{"examples": [{"user": "x" * 16384, "assistant": "{question}"}] * 4}]
    large = including("2", "1", variables=[{"name": "question"}])
    world.put(Kind.PROMPT_TEMPLATE, "answer", {**large, "messages": [large["messages"][0], *turns]})
    await operator.settle()
    assert ready(world, PROMPT) == ("False", "TooLarge")
    assert "1048576" in message(world)
    assert "with all includes in their place" in message(world)
    assert "Version 1 stays live" in message(world)
    assert [write for write in world.writes if write.startswith("revision ")] == writes


@pytest.mark.parametrize(
    ("answer", "other", "reason", "words"),
    [
        (including("1", "1", "answer"), None, "IncludeCycle", "answer:1 -> answer:1"),
        (including("1", "1"), including("1", "1", "answer"), "IncludeCycle", "answer:1 -> style:1 -> answer:1"),
        (including("1", "1"), style("1", "{place}"), "ReferenceNotReady", "version 1 of PromptTemplate style"),
        (including("1", "1"), style("1", "{question}", variables=[{"name": "question", "required": False}]),
         "InvalidTemplate", "declared differently"),
    ],
    ids=["itself", "each other", "broken", "conflict"],
)  # fmt: skip
async def test_an_include_that_cannot_be_says_why(
    answer: dict[str, Any], other: dict[str, Any] | None, reason: str, words: str
) -> None:
    """Circles, versions that never became live, and templates that don't fit together."""
    world = FakeWorld()
    operator = FakeOperator(world)
    if other is not None:
        world.put(Kind.PROMPT_TEMPLATE, "style", other)
    world.put(Kind.PROMPT_TEMPLATE, "answer", answer)
    for _ in range(5):
        await operator.once()
        world.tick()
    assert ready(world, PROMPT) == ("False", reason)
    assert words in message(world)


@pytest.mark.parametrize("spec", [prompt("1"), prompt("2", "Say: {question}")], ids=["back", "same"])
async def test_killed_after_any_write_no_label_is_lost(spec: dict[str, Any]) -> None:
    """Whatever the operator was killed after, both versions are kept and the wanted one is live."""
    for point in range(1, 12):
        world, operator = await applied(prompt("1"))
        world.crash_after = len(world.writes) + point
        for each in (prompt("2", "Say: {question}"), spec):
            world.put(Kind.PROMPT_TEMPLATE, "answer", each)
            try:
                await operator.settle()
            except Crash:
                operator.restart()
                await operator.settle()
        assert versions(world)[0] == spec["version"]
        assert sorted(versions(world)) == ["1", "2"]
        assert ready(world, PROMPT) == ("True", "Ready")
