# SPDX-License-Identifier: Apache-2.0
"""What may be cut of a prompt: never a system message, and never so that redacted personal data shows again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts import composing, personal_data, post_processing
from lateen_api.prompts.window import DoesNotFit, fit
from lateen_api.rendering import CompiledPrompt, violations

WINDOW = {"overflow": "Truncate", "priority": ["question", "context"]}


def spec(*messages: tuple[str, str], **more: Any) -> PromptTemplateSpec:
    """A prompt of a question and passages, which may be cut."""
    document = {
        "version": "1",
        "messages": [{"role": role, "content": content} for role, content in messages],
        "variables": [{"name": "question"}, {"name": "context", "from": "retrieval"}],
        "contextWindow": WINDOW,
    }
    return PromptTemplateSpec.model_validate(document | more)


def redacting(*steps: str) -> PromptTemplateSpec:
    """A prompt with these steps."""
    return spec(("user", "«{question}» «{context}»"), postProcessing=list(steps))


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_with_what_may_be_cut_is_refused(role: str) -> None:
    """It is never cut: the author says where its variable belongs, before the prompt is live."""
    (found,) = violations(spec((role, "Know {context}."), ("user", "{context} {question}")))
    assert (found.path, found.reason) == ("contextWindow.priority[1]", "InvalidWindow")
    assert "'context' stands in messages[0].content, and a system message is never cut" in found.message
    assert violations(spec(("user", "{context} {question}"), (role, "Be brief."))) == ()


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        (["RedactPII"], "ann@host.org now", "[EMAIL] now"),
        (["NormalizeUnicode", "RedactPII"], "ann\u200b@host.org now", "[EMAIL] now"),
        (["RedactPII", "NormalizeUnicode"], "ann\u200b@host.org now", "ann\u200b@host.org now"),
        (["CollapseWhitespace", "RedactPII"], "4111\u00a0 1111  1111\t1111\n a", "[CREDIT_CARD]\n a"),
        (["RedactPII", "CollapseWhitespace"], "4111  1111  1111  1111", "4111  1111  1111  1111"),
        (["Strip", "MaxLines(1)", "NormalizeUnicode", "RedactPII", "Dedent"], " b@\u200bc.de ", " [EMAIL] "),
        (["NormalizeUnicode"], "ann\u200b@host.org", "ann\u200b@host.org"),
    ],
)
def test_values_are_redacted_in_the_order_of_the_steps(steps: list[str], text: str, expected: str) -> None:
    """So that what is redacted in the whole message is redacted before anything is cut."""
    material = composing.material(redacting(*steps), {"question": text}, [text], [])
    assert (material.values["question"], material.passages) == (expected, [expected])


ORDERS = st.lists(
    st.sampled_from(
        ["NormalizeUnicode", "CollapseWhitespace", "RedactPII", "Strip", "Dedent", "MaxLines(2)"]
    ),
    unique=True,
)
PIECES = [
    "ann@host.org",
    "4111",
    "1111",
    "+49 170 1234567",
    "\u200b",
    "e\u0301",
    " ",
    "  ",
    "\t",
    "\n",
    "\u2028",
    "x",
    "@",
    ".",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def redacted(text: str) -> str:
    """The text without personal data that shows only once its neighbour is redacted."""
    once = personal_data.redact(text)
    return text if once == text else redacted(once)


LINEWISE = st.sampled_from(["Strip", "Dedent", "MaxLines(2)"])


@given(
    st.sampled_from(
        [["NormalizeUnicode", "CollapseWhitespace"], ["NormalizeUnicode"], ["CollapseWhitespace"], []]
    ),
    st.lists(LINEWISE, max_size=2),
    TEXTS,
    TEXTS,
)
def test_a_prompt_of_which_nothing_is_cut_is_the_rendered_one(
    before: list[str], after: list[str], question: str, passage: str
) -> None:
    """What is done to the values beforehand changes nothing of the whole, but that redaction looks twice."""
    prompt = redacting(*before, "RedactPII", *after)
    material = composing.material(prompt, {"question": question, "context": passage}, [passage], [])
    (whole,) = CompiledPrompt(prompt).filled({"question": question, "context": passage})
    (composed,) = composing.Composer(prompt).compose(material)
    assert redacted(composed["content"]) == redacted(whole.content)


@given(ORDERS, st.text("ab \u200b\t\n\u2028\u0301"))
def test_a_text_without_personal_data_is_left_as_it_is(steps: list[str], text: str) -> None:
    """Its blanks and hidden characters are the business of the steps, which see the whole message."""
    material = composing.material(redacting(*steps), {"question": text}, [text], [])
    assert (material.values["question"], material.passages) == (text, [text])


@given(ORDERS, TEXTS, st.integers(40, 140))
def test_no_cut_shows_what_was_redacted(steps: list[str], text: str, limit: int) -> None:
    """However little fits, of an address that the whole prompt does not show no half is shown."""
    prompt = redacting(*steps)
    material = composing.material(prompt, {"question": f"{text} zed.lee\u200b@host.org"}, [text], [])
    compose = composing.Composer(prompt).compose
    is_shown = "zed" in str(compose(material))
    try:
        fitted = fit(material, composing.order(prompt), compose, lambda one: len(str(one)), limit)
    except DoesNotFit:
        return
    assert is_shown or "zed" not in str(fitted.composed)


def test_a_prompt_without_redaction_changes_no_value() -> None:
    """Its steps are for rendered messages."""
    assert post_processing.before_redaction(["NormalizeUnicode", "CollapseWhitespace"]) is None
