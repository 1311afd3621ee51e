# SPDX-License-Identifier: Apache-2.0
"""PromptTemplates on real parts: revisions, versions, and bad templates that change nothing."""

from typing import Any

import openai
import pytest

from stack import asking, manifests
from stack.cluster import Cluster, condition
from stack.traffic import traffic
from stack.waiting import wait_for

KIND = "prompttemplates.lateen.dev"


@pytest.fixture(scope="module")
def chat(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny model, Ready; the id clients use."""
    cluster.apply(manifests.model(shared_namespace, "chat", "generate", "tiny-chat"))
    found = cluster.wait_ready("modeldeployments.lateen.dev", shared_namespace, "chat", timeout=180)
    return str(found["status"]["modelId"])


def template(namespace: str, name: str, version: str, content: str) -> manifests.Manifest:
    """A PromptTemplate with one message and the variable `topic`."""
    messages = [{"role": "user", "content": content}]
    variables = [{"name": "topic", "rules": [{"maxLength": 20}]}]
    return manifests.prompt(namespace, name, version=version, messages=messages, variables=variables)


def use(sdk: openai.OpenAI, model: str, prompt: dict[str, Any]) -> Any:
    """A response that is made from the prompt alone."""
    return sdk.responses.create(model=model, prompt=prompt, max_output_tokens=8, temperature=0)  # type: ignore[call-overload]  # a plain dict for brevity


def test_a_prompt_is_ready_and_filled_in(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI
) -> None:
    """A PromptTemplate becomes something clients call by id, with their variables."""
    cluster.apply(template(shared_namespace, "filled", "1", "what is {topic}"))
    status = cluster.wait_ready(KIND, shared_namespace, "filled", timeout=30)["status"]
    assert status["promptId"] == f"{shared_namespace}.filled"
    short = use(sdk, chat, {"id": status["promptId"], "variables": {"topic": "a cat"}})
    long = use(sdk, chat, {"id": status["promptId"], "variables": {"topic": "a cat and a dog"}})
    assert long.usage.input_tokens > short.usage.input_tokens
    assert short.prompt.version == "1"


def test_an_earlier_version_stays_callable_by_its_label(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI
) -> None:
    """A change makes a new revision live while requests go on; the old one answers whoever pins it."""
    prompt = f"{shared_namespace}.pinned"
    variables = {"topic": "tea"}
    cluster.apply(template(shared_namespace, "pinned", "1", "{topic}"))
    before = cluster.wait_ready(KIND, shared_namespace, "pinned", timeout=30)["status"]
    with traffic(lambda: use(sdk, chat, {"id": prompt, "variables": variables})):
        cluster.apply(template(shared_namespace, "pinned", "2", "what is {topic} " + "and why " * 8))
        after = cluster.wait_ready(KIND, shared_namespace, "pinned", timeout=30)["status"]
    assert after["version"] == "2"
    assert after["revision"] != before["revision"]
    live = use(sdk, chat, {"id": prompt, "variables": variables})
    old = use(sdk, chat, {"id": prompt, "version": "1", "variables": variables})
    assert live.prompt.version == "2"
    assert live.usage.input_tokens > old.usage.input_tokens
    with pytest.raises(openai.NotFoundError):
        use(sdk, chat, {"id": prompt, "version": "3", "variables": variables})


def test_a_bad_template_keeps_the_live_one(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI
) -> None:
    """A template whose placeholders don't fit is reported with InvalidTemplate and never reaches clients."""
    cluster.apply(template(shared_namespace, "broken", "1", "what is {topic}"))
    good = cluster.wait_ready(KIND, shared_namespace, "broken", timeout=30)["status"]
    cluster.apply(template(shared_namespace, "broken", "2", "what is {topic} in {place}"))
    found = cluster.wait_reason(KIND, shared_namespace, "broken", "InvalidTemplate", timeout=30)
    assert "place" in condition(found)["message"]
    assert found["status"]["revision"] == good["revision"]
    reply = use(sdk, chat, {"id": f"{shared_namespace}.broken", "variables": {"topic": "tea"}})
    assert reply.prompt.version == "1"
    cluster.apply(template(shared_namespace, "broken", "3", "{topic}"))
    assert cluster.wait_ready(KIND, shared_namespace, "broken", timeout=30)["status"]["version"] == "3"


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({}, "topic"),
        ({"topic": "x" * 21}, "topic"),
        ({"topic": "tea", "other": "1"}, "other"),
    ],
    ids=["missing", "too long", "unknown"],
)
def test_variables_that_break_a_rule_are_refused_by_name(
    chat: str,
    cluster: Cluster,
    shared_namespace: str,
    sdk: openai.OpenAI,
    variables: dict[str, str],
    word: str,
) -> None:
    """The caller reads which variable is wrong."""
    cluster.apply(template(shared_namespace, "strict", "1", "what is {topic}"))
    cluster.wait_ready(KIND, shared_namespace, "strict", timeout=30)
    with pytest.raises(openai.BadRequestError, match=word):
        use(sdk, chat, {"id": f"{shared_namespace}.strict", "variables": variables})


def test_a_deleted_prompt_is_not_found(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI
) -> None:
    """After `kubectl delete` the id is unknown to clients and no revision is left."""
    cluster.apply(template(shared_namespace, "gone", "1", "what is {topic}"))
    cluster.wait_ready(KIND, shared_namespace, "gone", timeout=30)
    cluster.delete(KIND, shared_namespace, "gone")

    def unknown() -> bool:
        try:
            use(sdk, chat, {"id": f"{shared_namespace}.gone", "variables": {"topic": "tea"}})
        except openai.NotFoundError:
            return True
        return False

    wait_for(unknown, 15, "the prompt still answers")
    wait_for(
        lambda: (
            "gone-" not in cluster.run("get", "controllerrevisions", "-n", shared_namespace, "-o", "name")
        ),
        60,
        "its revisions are not garbage-collected",
        interval=0.5,
    )
    assert asking.say(sdk, chat)
