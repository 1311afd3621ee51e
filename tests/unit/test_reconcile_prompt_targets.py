# SPDX-License-Identifier: Apache-2.0
"""PromptTemplates that name the models and indexes they are written for, in the operator."""

from typing import Any

import pytest

from lateen_operator.seams import Backoff, Key, Kind
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import INDEX, LLM, PROMPT, catalog, everything, index, model, prompt

TARGETS: dict[str, Any] = {"modelRefs": [{"name": "llm"}], "indexRefs": [{"name": "handbook"}]}
SHORT = model(engine={"maxModelLen": 128})


def message(world: FakeWorld) -> str:
    """What the Ready condition says."""
    return str(world.resources[PROMPT].status["conditions"][0]["message"])


def versions(world: FakeWorld) -> list[str]:
    """Versions that the gateway has of the prompt, the live one first."""
    return [each.spec.version for each in catalog(world).prompts[0].revisions]


def targeted(version: str, tokens: int, **more: Any) -> dict[str, Any]:
    """Spec of a prompt of at most so many tokens and an answer of 28, written for the world's model and index."""
    window = {"maxPromptTokens": tokens, "reserveOutputTokens": 28}
    return prompt(version, contextWindow=window, **{"targets": TARGETS} | more)


def compatible(world: FakeWorld) -> str:
    """Reason and words of the prompt's condition Compatible; empty where it has none."""
    found = [each for each in world.resources[PROMPT].status["conditions"] if each["type"] == "Compatible"]
    return f"{found[0]['status']} {found[0]['reason']} {found[0]['message']}" if found else ""


async def with_targets(version: str, tokens: int) -> tuple[FakeWorld, FakeOperator]:
    """A settled world whose model reads 128 tokens and whose index hands one passage of 16 to the prompt."""
    world = everything(FakeWorld())
    world.put(Kind.MODEL_DEPLOYMENT, "llm", SHORT)
    world.put(Kind.RAG_INDEX, "handbook", index(16, retrieval={"limit": 1}))
    world.put(Kind.PROMPT_TEMPLATE, "answer", targeted(version, tokens))
    operator = FakeOperator(world)
    await operator.settle()
    return world, operator


async def test_what_does_not_fit_its_targets_is_not_live_until_it_does() -> None:
    """The version before stays live; a longer model heals it without a change of the prompt."""
    world, operator = await with_targets("1", 100)
    assert ready(world, PROMPT) == ("True", "Ready")
    world.put(Kind.PROMPT_TEMPLATE, "answer", targeted("2", 101))
    await operator.settle()
    assert ready(world, PROMPT) == ("False", "Incompatible")
    assert "101 tokens of prompt + 28 of answer = 129, but ModelDeployment llm reads 128" in message(world)
    assert "Version 1 stays live" in message(world)
    assert versions(world) == ["1"]
    assert compatible(world) == ""
    before = len(world.writes)
    await operator.once()
    assert len(world.writes) == before
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(engine={"maxModelLen": 129}))
    await operator.settle()
    assert ready(world, PROMPT) == ("True", "Ready")
    assert versions(world) == ["2", "1"]


async def test_a_prompt_that_waits_for_its_targets_is_looked_at_every_three_seconds() -> None:
    """No event of a model or an index wakes it; one that waits for something else is looked at ever later."""
    world, operator = await with_targets("1", 100)
    world.put(Kind.PROMPT_TEMPLATE, "answer", targeted("2", 101))
    await operator.settle()
    wish = await operator.reconciler.reconcile(PROMPT)
    assert isinstance(wish, Backoff)
    assert wish.longest == 3.0
    include = {"include": {"name": "none", "version": "1"}}
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("3") | {"messages": [include]})
    await operator.once()
    wish = await operator.reconciler.reconcile(PROMPT)
    assert isinstance(wish, Backoff)
    assert wish.longest == 30.0


@pytest.mark.parametrize("missing", [LLM, INDEX], ids=["model", "index"])
async def test_a_missing_target_is_waited_for(missing: Key) -> None:
    """Nothing is live before it exists; then the prompt is."""
    world = everything(FakeWorld())
    world.put(Kind.MODEL_DEPLOYMENT, "llm", SHORT)
    world.put(Kind.RAG_INDEX, "handbook", index(16))
    spec = world.resources.pop(missing).spec
    world.put(Kind.PROMPT_TEMPLATE, "answer", targeted("1", 100))
    operator = FakeOperator(world)
    await operator.settle()
    assert ready(world, PROMPT) == ("False", "ReferenceNotFound")
    assert missing.name in message(world)
    assert catalog(world).prompts == []
    world.put(missing.kind, missing.name, spec)
    await operator.settle()
    assert ready(world, PROMPT) == ("True", "Ready")


async def test_a_prompt_waits_for_the_index_that_it_searches() -> None:
    """Without it there is nothing to be filled from; once live, the prompt outlives it and says so."""
    world = everything(FakeWorld())
    book = world.resources.pop(INDEX).spec
    search = {"name": "found", "from": "retrieval", "retrieval": {"indexRefs": [{"name": "handbook"}]}}
    said = [{"role": "user", "content": "{found}"}]
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("1") | {"variables": [search], "messages": said})
    operator = FakeOperator(world)
    await operator.settle()
    assert ready(world, PROMPT) == ("False", "ReferenceNotFound")
    assert "retrieval.indexRefs: RAGIndex 'handbook'" in message(world)
    world.put(Kind.RAG_INDEX, "handbook", book)
    await operator.settle()
    assert (ready(world, PROMPT), compatible(world)) == (("True", "Ready"), "")
    del world.resources[INDEX]
    await operator.settle()
    assert ready(world, PROMPT) == ("True", "Ready")
    assert compatible(world).startswith("False ReferenceNotFound")


@pytest.mark.parametrize(
    ("large", "small", "told"),
    [
        ({"limit": 1}, {"limit": 4}, "(4 passages of 64 tokens, at most 112) = 112"),
        ({"limit": 1}, {"limit": 4, "maxContextTokens": 20}, "(4 passages of 64 tokens, at most 112) = 112"),
        ({"limit": 1, "maxContextTokens": 70}, {"limit": 4, "maxContextTokens": 20}, ""),
    ],
)
async def test_indexes_that_are_searched_together_count_together(
    large: dict[str, Any], small: dict[str, Any], told: str
) -> None:
    """The largest passages first, up to the largest limit; a bound holds where each index has one."""
    world = everything(FakeWorld())
    world.put(Kind.RAG_INDEX, "handbook", index(64, retrieval=large))
    world.put(Kind.RAG_INDEX, "notes", index(16, retrieval=small))
    refs = [{"name": "handbook"}, {"name": "notes"}]
    search = {"name": "found", "from": "retrieval", "retrieval": {"indexRefs": refs}}
    said = [{"role": "user", "content": "{found}"}]
    spec = prompt("1", contextWindow={"maxPromptTokens": 100, "reserveOutputTokens": 28})
    world.put(Kind.PROMPT_TEMPLATE, "answer", spec | {"variables": [search], "messages": said})
    operator = FakeOperator(world)
    await operator.settle()
    wish = await operator.reconciler.reconcile(PROMPT)
    assert wish is None or (
        isinstance(wish, Backoff) and wish.longest <= 3
    )  # it heals soon after they change
    assert ready(world, PROMPT) == (("False", "Incompatible") if told else ("True", "Ready"))
    assert not told or f"RAGIndex handbook and notes {told}" in message(world)


async def test_a_live_prompt_outlives_a_target_that_shrinks() -> None:
    """It stays live and Ready, says that it does not fit any more, and no longer once it does; so with a missing one."""
    world, operator = await with_targets("1", 100)
    world.put(Kind.RAG_INDEX, "handbook", index(16, retrieval={"limit": 7}))
    await operator.settle()
    assert ready(world, PROMPT) == ("True", "Ready")
    assert "(7 passages of 16 tokens) = 112 leave no room" in compatible(world)
    world.put(Kind.RAG_INDEX, "handbook", index(16, retrieval={"limit": 1}))
    await operator.settle()
    assert compatible(world) == ""
    world.delete(INDEX)
    await operator.settle()
    assert compatible(world).startswith("False ReferenceNotFound spec.targets.indexRefs: RAGIndex 'handbook'")
    assert ready(world, PROMPT) == ("True", "Ready")
    assert versions(world) == ["1"]


async def test_targets_are_no_part_of_a_revision() -> None:
    """They change under the same label, and what is live stays live even where it does not fit the new ones."""
    world, operator = await with_targets("1", 100)
    kept = {item.name for item in world.stored}
    world.put(Kind.PROMPT_TEMPLATE, "answer", targeted("1", 100, targets={"modelRefs": [{"name": "none"}]}))
    await operator.settle()
    assert ready(world, PROMPT) == ("True", "Ready")
    assert compatible(world).startswith("False ReferenceNotFound")
    assert {item.name for item in world.stored} == kept


async def test_a_lost_record_of_a_live_prompt_is_written_again_whatever_its_targets_say() -> None:
    """What clients are answered by is not taken away because a model has shrunk and somebody deleted a revision."""
    world, operator = await with_targets("1", 100)
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model(engine={"maxModelLen": 64}))
    await operator.settle()
    world.stored = [item for item in world.stored if not item.name.startswith("answer-")]
    await operator.settle()
    assert versions(world) == ["1"]
    assert ready(world, PROMPT) == ("True", "Ready")
