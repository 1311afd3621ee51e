# SPDX-License-Identifier: Apache-2.0
"""The context window: what fits stays whole; what does not gives way in the author's order and no more than needed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import combining

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen_api.prompts.cutting import Cut, Material
from lateen_api.prompts.window import DoesNotFit, Fitted, budget, fit

Said = Mapping[str, Any]
Prompt = list[tuple[str, str]]
quick = settings(deadline=None, max_examples=60)

WORDS = st.lists(st.text("abcé \n日\u0301", max_size=30), max_size=12).map(" ".join)
SAID = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant", "system", "tool"]),
    WORDS,
)
MATERIAL = st.builds(
    Material[Said],
    values=st.fixed_dictionaries({"question": WORDS, "tags": st.lists(WORDS, max_size=5), "n": st.just(7)}),
    passages=st.lists(WORDS, max_size=6),
    conversation=st.lists(SAID, max_size=10),
    retrieval=st.just("context"),
)
NAMES = ["question", "tags", "n", "context", "conversation"]
ORDER = st.lists(st.sampled_from(NAMES), unique=True)


def compose(material: Material[Said]) -> Prompt:
    """A prompt with a system message and a condition, behind it the conversation."""
    values = material.values
    context = "\n".join(material.passages)
    system = f"Be brief. {values['n']} {' '.join(values['tags'])}" + (
        f" Sources: {context}" if context else ""
    )
    said = [(message["role"], message["content"]) for message in material.conversation]
    return [("system", system), ("user", values["question"]), *said]


def count(prompt: Prompt) -> int:
    """One token for each character and three around each message."""
    return sum(3 + len(content) for _, content in prompt)


def fitted(material: Material[Said], order: Sequence[str], limit: int) -> Fitted[Said, Prompt]:
    """The material fitted, with the tests' composition and count."""
    return fit(material, order, compose, count, limit)


@quick
@given(MATERIAL, ORDER)
def test_what_fits_is_left_alone(material: Material[Said], order: list[str]) -> None:
    """A prompt of exactly the limit is counted once and nothing of it goes."""
    counts: list[Prompt] = []

    def counting(prompt: Prompt) -> int:
        counts.append(prompt)
        return count(prompt)

    whole = compose(material)
    result = fit(material, order, compose, counting, count(whole))
    assert (result.composed, result.material, result.cuts) == (whole, material, ())
    assert counts == [whole]


@quick
@given(MATERIAL, ORDER, st.integers(1, 400))
def test_a_cut_prompt_fits_and_one_that_can_not_says_its_numbers(
    material: Material[Said], order: list[str], limit: int
) -> None:
    """The result is the composition of what is left and within the limit; else both counts are told."""
    tokens = count(compose(material))
    try:
        result = fitted(material, order, limit)
    except DoesNotFit as error:
        refusal: DoesNotFit | None = error
    else:
        refusal = None
    if refusal is not None:
        assert (refusal.tokens, refusal.limit) == (tokens, limit)
        assert limit < refusal.least <= tokens
    else:
        assert result.composed == compose(result.material)
        assert result.tokens == count(result.composed) <= limit
        assert result.tokens_before == tokens
        assert bool(result.cuts) == (tokens > limit)


@quick
@given(MATERIAL, ORDER, st.integers(1, 400))
def test_later_ones_are_whole_while_earlier_ones_last(
    material: Material[Said], order: list[str], limit: int
) -> None:
    """Cuts come in the author's order, and all but the last of them have nothing left; what is not named is whole."""
    try:
        result = fitted(material, order, limit)
    except DoesNotFit:
        return
    changed = [cut.what for cut in result.cuts]
    positions = [order.index(name) for name in changed]
    assert positions == sorted(positions)
    if changed:
        earlier = order[: order.index(changed[-1])]
        assert "context" not in earlier or not "".join(result.material.passages)
        assert "tags" not in earlier or not result.material.values["tags"]
        # What begins with a combining mark is a part of what stands before it, blanks too.
        words = [word for word in result.material.values["question"].split() if not combining(word[0])]
        assert "question" not in earlier or len(words) <= 1
    for name in {"question", "tags", "n"} - set(changed):
        assert result.material.values[name] == material.values[name]
    if "context" not in changed:
        assert result.material.passages == material.passages
    if "conversation" not in changed:
        assert result.material.conversation == material.conversation


@quick
@given(MATERIAL, ORDER, st.integers(1, 400))
def test_instructions_and_the_last_turn_stay(material: Material[Said], order: list[str], limit: int) -> None:
    """System messages and all from the last user message on are in every result; the rest is a later part of it."""
    try:
        result = fitted(material, order, limit)
    except DoesNotFit:
        return
    said, left = list(material.conversation), list(result.material.conversation)
    roles = [message["role"] for message in said]
    last = len(roles) - 1 - roles[::-1].index("user") if "user" in roles else 0
    assert left[len(left) - len(said[last:]) :] == said[last:]
    assert [m for m in left if m["role"] == "system"] == [m for m in said if m["role"] == "system"]
    others = [m for m in left if m["role"] != "system"]
    assert (
        others
        == [m for m in said if m["role"] != "system"][len(said) - roles.count("system") - len(others) :]
    )


@quick
@given(MATERIAL, ORDER, st.integers(1, 400), st.integers(0, 100))
def test_a_larger_window_keeps_no_less(
    material: Material[Said], order: list[str], limit: int, more: int
) -> None:
    """Whatever fits in a window fits in a larger one, with as many tokens or more."""
    try:
        small = fitted(material, order, limit)
    except DoesNotFit:
        return
    large = fitted(material, order, limit + more)
    assert large.tokens >= small.tokens or large.cuts == ()
    assert {cut.what for cut in large.cuts} <= {cut.what for cut in small.cuts}


@quick
@given(MATERIAL, ORDER, st.integers(1, 400))
def test_a_cut_costs_few_counts(material: Material[Said], order: list[str], limit: int) -> None:
    """The number of counts grows with the logarithm of the text."""
    counts = 0

    def counting(prompt: Prompt) -> int:
        nonlocal counts
        counts += 1
        return count(prompt)

    pieces = 2 + sum(map(len, compose_texts(material)))
    try:
        fit(material, order, compose, counting, limit)
    except DoesNotFit:
        assert counts <= 2
    else:
        assert counts <= 2 * math.log2(pieces) + 4


def compose_texts(material: Material[Said]) -> list[str]:
    """What the whole prompt says."""
    return [content for _, content in compose(material)]


def test_a_long_text_is_cut_with_a_handful_of_counts() -> None:
    """Of forty thousand words the first that fit are found with fewer than ten counts, and one more would not fit."""
    calls = 0

    def counting(prompt: Prompt) -> int:
        nonlocal calls
        calls += 1
        return sum(len(content.split()) for _, content in prompt)

    text = " ".join(f"word{number % 97}" for number in range(40_000))
    result = fit(
        Material[Said]({"question": text, "tags": [], "n": 1}), ["question"], compose, counting, 3_000
    )
    assert result.tokens == 3_000
    assert calls < 10
    assert text.startswith(result.material.values["question"] + " ")


def test_turns_go_before_passages_before_words_when_the_author_says_so() -> None:
    """The oldest turn goes first with its answer and results, then the worst passages, then words of the best one."""
    material = Material[Said](
        values={"question": "why", "tags": [], "n": 1},
        passages=["best one two three", "second", "third"],
        conversation=[
            {"role": "user", "content": "u1"},
            {"role": "assistant", "content": "calls"},
            {"role": "tool", "content": "result"},
            {"role": "user", "content": "u2"},
            {"role": "assistant", "content": "a2"},
            {"role": "user", "content": "u3"},
        ],
        retrieval="context",
    )
    whole = count(compose(material))
    seen = []
    for limit in range(whole, 0, -1):
        try:
            result = fitted(material, ["conversation", "context"], limit)
        except DoesNotFit:
            break
        seen.append((len(result.material.conversation), list(result.material.passages)))
    assert list(dict.fromkeys(map(repr, seen))) == [
        repr(state)
        for state in [
            (6, ["best one two three", "second", "third"]),
            (3, ["best one two three", "second", "third"]),
            (1, ["best one two three", "second", "third"]),
            (1, ["best one two three", "second"]),
            (1, ["best one two three"]),
            (1, ["best one two"]),
            (1, ["best one"]),
            (1, ["best"]),
            (1, []),
        ]
    ]


def test_what_was_cut_is_told() -> None:
    """Each cut names what gave way, in which unit, and how much there was and is."""
    material = Material[Said](
        values={"question": "one two three", "tags": ["a", "b"], "n": 1},
        passages=["long passage", "other"],
        conversation=[{"role": "user", "content": "old"}, {"role": "user", "content": "new"}],
        retrieval="context",
    )
    least = Material[Said]({"question": "one", "tags": [], "n": 1}, (), material.conversation[1:], "context")
    result = fitted(material, ["conversation", "context", "tags", "question"], count(compose(least)))
    assert result.cuts == (
        Cut("conversation", "turns", 2, 1),
        Cut("context", "passages", 2, 0),
        Cut("tags", "items", 2, 0),
        Cut("question", "characters", 13, 3),
    )


def test_no_character_is_torn_apart() -> None:
    """A cut never separates a letter from its accent or the parts of an emoji."""
    text = "e\u0301" * 40 + "\U0001f469\u200d\U0001f52c" * 20
    for limit in range(40, count(compose(Material[Said]({"question": text, "tags": [], "n": 1})))):
        left = fitted(Material({"question": text, "tags": [], "n": 1}), ["question"], limit).material
        rest = text[len(left.values["question"]) :]
        assert not rest.startswith(("\u0301", "\u200d"))
        assert not left.values["question"].endswith("\u200d")


@pytest.mark.parametrize(
    ("context", "most", "reserve", "asked", "expected"),
    [
        (4096, None, None, None, 4095),
        (4096, 3000, 512, None, 3000),
        (4096, 3000, 2000, None, 2096),
        (4096, None, 512, 1024, 3072),
        (4096, None, 512, 100, 3584),
        (100, 3000, 512, None, -412),
    ],
)
def test_a_prompt_leaves_room_for_its_answer(
    context: int, most: int | None, reserve: int | None, asked: int | None, expected: int
) -> None:
    """The author's bound, the reserve and what the request asks for all hold."""
    assert budget(context, most, reserve, asked) == expected
