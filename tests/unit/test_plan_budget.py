# SPDX-License-Identifier: Apache-2.0
"""Whether a model can read a prompt at its full length: the numbers, and what the status says."""

from collections.abc import Sequence
from typing import Any

import pytest

from lateen_api.conditions import ConditionType
from lateen_api.prompt_template import PromptTemplateSpec, Targets
from lateen_operator.plan import prompt_budget, prompt_targets
from lateen_operator.plan.world import World
from lateen_operator.seams import Key, Kind, Resource
from unit.operator_fake_ray import FACTS
from unit.operator_fakes import FakeOperator, FakeWorld, ready
from unit.operator_specs import PROMPT, catalog, index, model, prompt

CUTTING = {"overflow": "Truncate", "priority": ["found"]}


def spec(window: dict[str, Any] | None, **defaults: Any) -> PromptTemplateSpec:
    """A prompt with passages in it."""
    given = prompt("1", "{found}", contextWindow=window, defaults=defaults)
    return PromptTemplateSpec.model_validate(given | {"variables": [{"name": "found", "from": "retrieval"}]})


@pytest.mark.parametrize(
    ("window", "defaults", "passages", "total"),
    [
        (None, {}, 600, 602),
        (None, {"maxOutputTokens": 300}, 0, 301),
        ({}, {}, 0, 2),
        ({"reserveOutputTokens": 100}, {}, 0, 101),
        ({"reserveOutputTokens": 100}, {"maxOutputTokens": 300}, 0, 301),
        ({"reserveOutputTokens": 100}, {"maxOutputTokens": 30}, 0, 101),
        ({"maxPromptTokens": 3000, "reserveOutputTokens": 512}, {}, 600, 3512),
        ({"reserveOutputTokens": 100}, {}, 600, 701),
        ({"reserveOutputTokens": 100} | CUTTING, {}, 600, 101),
    ],
)
def test_a_prompt_needs_what_its_window_promises(
    window: dict[str, Any] | None, defaults: dict[str, Any], passages: int, total: int
) -> None:
    """Its bound or else the passages that can't give way, and the longest answer that is kept free."""
    assert prompt_budget.budget(spec(window, **defaults), passages).total == total


def test_passages_without_a_variable_stay() -> None:
    """The gateway puts them into the system message, of which nothing is cut."""
    given = prompt("1", contextWindow={"overflow": "Truncate", "priority": ["question"]})
    assert prompt_budget.budget(PromptTemplateSpec.model_validate(given), 600).total == 602


def llm(name: str, context: int | None, status: str = "True", **more: Any) -> Resource:
    """A model with its Ready condition and the tokens it reads; `length` is its spec.engine.maxModelLen."""
    key = Key(Kind.MODEL_DEPLOYMENT, more.get("namespace", "default"), name)
    said: dict[str, Any] = {"conditions": [{"type": "Ready", "status": status}]}
    said |= {"facts": {"contextTokens": context}} if context else {}
    engine = {"engine": {"maxModelLen": more["length"]}} if "length" in more else {}
    given = model(more.get("task", "generate")) | engine
    return Resource(key, name, 1, "1", 0, given, said, {}, (), more.get("deleting", False))


def rag(name: str, limit: int, size: int, **more: Any) -> Resource:
    """An index that hands so many passages of so many tokens to a prompt."""
    key = Key(Kind.RAG_INDEX, "default", name)
    given = index(size, retrieval={"limit": limit}) | more
    return Resource(key, name, 1, "1", 0, given, {}, {}, (), False)


def handing(**retrieval: Any) -> Resource:
    """An index with passages of 200 tokens."""
    return rag("handbook", 0, 200, retrieval=retrieval)


TARGETS = Targets.model_validate({"modelRefs": [{"name": "llm"}], "indexRefs": [{"name": "handbook"}]})
WHOLE: dict[str, Any] = {"maxPromptTokens": 400, "reserveOutputTokens": 113}
OPEN: dict[str, Any] = {"reserveOutputTokens": 112}
NEED = "401 tokens of prompt (400 of them passages) + 112 of answer = 513"
BOOK = rag("handbook", 2, 200)


def judged(
    window: dict[str, Any] | None, models: Sequence[Resource], indexes: Sequence[Resource], **defaults: Any
) -> str:
    """Reason and words for which a prompt does not fit its targets `llm` and `handbook`; empty where it does."""
    world = World(models=tuple(models), indexes=tuple(indexes))
    found = prompt_targets.misfit("default", spec(window, **defaults), TARGETS, world)
    return f"{found.reason.value} {found.message}" if found else ""


@pytest.mark.parametrize(
    ("window", "models", "indexes", "words"),
    [
        (WHOLE, [llm("llm", 513)], [rag("handbook", 2, 199)], ""),
        (WHOLE, [llm("llm", 512)], [rag("handbook", 1, 200)],
         "Incompatible the prompt needs 400 tokens of prompt + 113 of answer = 513, but ModelDeployment llm reads 512;"),
        (WHOLE, [llm("llm", 513)], [BOOK],
         "Incompatible passages of RAGIndex handbook (2 passages of 200 tokens) = 400 leave no room in spec."),
        (WHOLE | CUTTING, [llm("llm", 513)], [rag("handbook", 9, 900)], ""),
        (OPEN, [llm("llm", 513)], [BOOK], ""),
        (OPEN, [llm("llm", 512)], [BOOK],
         f"Incompatible the prompt with RAGIndex handbook (2 passages of 200 tokens) needs {NEED}, but ModelDeployment"),
        (WHOLE, [llm("llm", 513)], [handing(limit=1, neighbours=1)],
         "Incompatible passages of RAGIndex handbook (1 passages of 600 tokens) = 600 leave no room in spec."),
        (WHOLE, [llm("llm", 513)], [handing(limit=9, maxContextTokens=399)], ""),
        (WHOLE, [llm("llm", 513)], [handing(limit=9, maxContextTokens=400)],
         "Incompatible passages of RAGIndex handbook (9 passages of 200 tokens, at most 400) = 400 leave no room in spec."),
        (WHOLE, [llm("llm", 513)], [handing(limit=9, neighbours=1, maxContextTokens=16)],
         "Incompatible passages of RAGIndex handbook (9 passages of 600 tokens, at most 600) = 600 leave no room in spec."),
        (OPEN | CUTTING, [llm("llm", 113)], [BOOK], ""),
        (None, [llm("llm", 402)], [BOOK], ""),
        (None, [llm("llm", 401)], [BOOK], "Incompatible "),
        (WHOLE, [llm("llm", None, length=512)], [rag("handbook", 1, 16)], "Incompatible "),
        (WHOLE, [llm("llm", None, length=513)], [rag("handbook", 1, 16)], ""),
        (WHOLE, [llm("llm", 513, length=512)], [rag("handbook", 1, 16)], ""),
        (WHOLE, [llm("llm", None)], [rag("handbook", 1, 16)], "ReferenceNotReady spec.targets.modelRefs:"),
        (WHOLE, [llm("llm", None)], [BOOK], "Incompatible passages"),
        (WHOLE, [llm("llm", 513)], [rag("handbook", 1, 16, sources=7)], "ReferenceNotReady "),
        (WHOLE, [llm("llm", 513, task="embed")], [BOOK],
         "Incompatible spec.targets.modelRefs: ModelDeployment 'llm' has task: embed;"),
        (WHOLE, [], [BOOK], "ReferenceNotFound spec.targets.modelRefs: ModelDeployment 'llm' does not exist"),
        (WHOLE, [llm("llm", 513, namespace="other")], [BOOK], "ReferenceNotFound "),
        (WHOLE, [llm("llm", 513, deleting=True)], [BOOK], "ReferenceNotFound "),
        (WHOLE, [llm("llm", 512)], [], "ReferenceNotFound spec.targets.indexRefs: RAGIndex 'handbook' does not exist"),
    ],
)  # fmt: skip
def test_a_prompt_fits_its_targets_or_the_numbers_say_why(
    window: dict[str, Any] | None, models: list[Resource], indexes: list[Resource], words: str
) -> None:
    """What is missing is told before what does not fit, and that before what is not known yet."""
    said = judged(window, models, indexes)
    assert said.startswith(words)
    assert bool(said) == bool(words)


def test_the_indexes_that_a_prompt_searches_are_targets_too() -> None:
    """They must exist, and what they hand over is counted, by the prompt's own limit; the declared targets stay."""
    search = {"indexRefs": [{"name": "handbook"}], "limit": 1}
    searching = spec(WHOLE)
    variables = [{"name": "context", "from": "retrieval", "retrieval": search}]
    searching = PromptTemplateSpec.model_validate(searching.dump() | {"variables": variables})
    models = Targets.model_validate({"modelRefs": [{"name": "llm"}], "indexRefs": [{"name": "other"}]})
    named = prompt_targets.named(searching, models)
    assert named is not None
    assert [each.name for each in named.model_refs] == ["llm"]
    assert [each.name for each in named.index_refs] == ["other", "handbook"]
    alone = prompt_targets.named(searching, None)

    def words(*indexes: Resource) -> str:
        found = prompt_targets.misfit("default", searching, alone, World(indexes=indexes))
        return found.message if found else ""

    assert (
        words() == "the variable's retrieval.indexRefs: RAGIndex 'handbook' does not exist in this namespace."
    )
    assert words(rag("handbook", 9, 399)) == ""
    assert "RAGIndex handbook (1 passages of 400 tokens) = 400 leave no room" in words(
        rag("handbook", 9, 400)
    )


def test_without_targets_nothing_is_asked() -> None:
    """And each of several must be large enough."""
    world = World(models=(llm("a", 513), llm("b", 512)))
    assert prompt_targets.misfit("default", spec(WHOLE), None, world) is None
    both = Targets.model_validate({"modelRefs": [{"name": "a"}, {"name": "b"}]})
    found = prompt_targets.misfit("default", spec(WHOLE), both, world)
    assert found is not None
    assert "ModelDeployment b reads 512" in found.message


def verdict(models: Sequence[Resource], live: PromptTemplateSpec | None = None) -> str:
    """What `Compatible` says of a prompt of 400 tokens and an answer of 113; empty where it says nothing."""
    window = {"maxPromptTokens": 400, "reserveOutputTokens": 113}
    own = Resource(PROMPT, "p", 1, "1", 0, {}, {}, {}, (), False)
    found = prompt_budget.conditions(own, live or spec(window), models)
    said = found.get(ConditionType.COMPATIBLE)
    return f"{said.status} {said.reason.value} {said.message}" if said else ""


@pytest.mark.parametrize(
    "models",
    [
        [],
        [llm("a", 512), llm("b", 513)],
        [llm("a", 512), llm("b", None)],
        [llm("a", 512, status="False")],
        [llm("a", 512, namespace="other")],
        [llm("a", 512, task="embed")],
    ],
)
def test_nothing_is_said_where_some_model_may_read_it(models: list[Resource]) -> None:
    """Large enough, not known yet, or none that counts."""
    assert verdict(models) == ""


def test_a_window_beyond_every_model_is_told_with_the_numbers() -> None:
    """The models by name, not too many of them; a prompt without a window promises nothing."""
    said = verdict([llm("b", 256), llm("a", 512)])
    assert said.startswith("False Incompatible no ready model of this namespace can read it at full length:")
    assert "400 tokens of prompt + 113 of answer = 513, but a reads 512, b reads 256; lower" in said
    assert "m07 reads 512 and 12 more are too small" in verdict([llm(f"m{n:02}", 512) for n in range(20)])
    assert verdict([llm("a", 512)], spec(None)) == ""


async def test_the_status_says_so_and_heals() -> None:
    """The prompt stays live and Ready; a steady world writes nothing; a shorter window takes the condition away."""
    world = FakeWorld()
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model())
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("1", contextWindow={"reserveOutputTokens": 512}))
    operator = FakeOperator(world)
    await operator.settle()
    world.facts[catalog(world).models[0].application] = FACTS
    await operator.settle()
    await operator.settle()
    conditions = {each["type"]: each for each in world.resources[PROMPT].status["conditions"]}
    assert (conditions["Compatible"]["status"], conditions["Compatible"]["reason"]) == (
        "False",
        "Incompatible",
    )
    assert "= 513, but llm reads 512" in conditions["Compatible"]["message"]
    assert ready(world, PROMPT) == ("True", "Ready")
    before = len(world.writes)
    await operator.once()
    assert len(world.writes) == before
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt("2", contextWindow={"reserveOutputTokens": 511}))
    await operator.settle()
    assert [each["type"] for each in world.resources[PROMPT].status["conditions"]] == ["Ready"]
