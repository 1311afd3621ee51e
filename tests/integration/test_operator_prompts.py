# SPDX-License-Identifier: Apache-2.0
"""PromptTemplates on real parts: revisions, versions, and bad templates that change nothing."""

import time
from typing import Any

import openai
import pytest

from stack import asking, manifests
from stack.cluster import Cluster, condition
from stack.local import LocalStack
from stack.parts import Operator
from stack.prompting import lateen, rendered, use
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


def test_a_version_that_was_live_is_never_changed(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI
) -> None:
    """Other content under the same label is refused with its reason, told in an Event, and the live one answers on."""
    cluster.apply(template(shared_namespace, "fixed", "1", "what is {topic}"))
    cluster.wait_ready(KIND, shared_namespace, "fixed", timeout=30)
    cluster.apply(template(shared_namespace, "fixed", "1", "who is {topic}"))
    found = cluster.wait_reason(KIND, shared_namespace, "fixed", "VersionImmutable", timeout=30)
    assert "allowVersionReuse" in condition(found)["message"]
    assert [(item["version"], item["state"]) for item in found["status"]["history"]] == [("1", "Live")]
    assert "VersionImmutable" in cluster.events(shared_namespace)
    assert use(sdk, chat, {"id": f"{shared_namespace}.fixed", "variables": {"topic": "tea"}})
    cluster.patch(KIND, shared_namespace, "fixed", {"allowVersionReuse": True})
    status = cluster.wait_ready(KIND, shared_namespace, "fixed", timeout=30)["status"]
    assert [item["state"] for item in status["history"]] == ["Live", "Superseded"]


def test_going_back_is_live_within_two_seconds(
    cluster: Cluster, shared_namespace: str, stack: LocalStack
) -> None:
    """The old YAML, applied again, re-uses its kept revision; clients get it at once."""
    one = template(shared_namespace, "back", "1", "what is {topic}")
    two = template(shared_namespace, "back", "2", "who is {topic}")
    for manifest in (one, two):
        cluster.apply(manifest)
        cluster.wait_ready(KIND, shared_namespace, "back", timeout=30)
    kept = revision_objects(cluster, shared_namespace, "back")
    cluster.apply(one)
    began = time.monotonic()
    wait_for(
        lambda: rendered(stack, f"{shared_namespace}.back") == "what is tea", 10, "version 1 is not live"
    )
    assert time.monotonic() - began < 2
    cluster.wait_ready(KIND, shared_namespace, "back", timeout=30)
    assert revision_objects(cluster, shared_namespace, "back") == kept


def test_versions_are_shown_compared_and_rolled_back(
    cluster: Cluster, shared_namespace: str, stack: LocalStack
) -> None:
    """`lateen history`, `diff` and `rollback` of a prompt, as a user types them."""
    for version, text in (("1.1", "what is {topic}"), ("1.2", "who is {topic}")):
        cluster.apply(template(shared_namespace, "shown", version, text))
        cluster.wait_ready(KIND, shared_namespace, "shown", timeout=30)
    place = ("-n", shared_namespace)
    shown = lateen(stack, "history", "pt/shown", *place)
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == ["1.2", "1.1"]
    compared = lateen(stack, "diff", "pt/shown", "1.1", "1.2", *place)
    assert compared.returncode == 1, compared.stderr
    assert "+  content: who is {topic}" in compared.stdout
    assert lateen(stack, "diff", "pt/shown", "1.2", *place).returncode == 0
    back = lateen(stack, "rollback", "pt/shown", "--to", "1.1", *place)
    assert back.returncode == 0, back.stderr
    status = cluster.wait_ready(KIND, shared_namespace, "shown", timeout=30)["status"]
    assert status["version"] == "1.1"


def test_an_included_template_is_put_in_place(
    cluster: Cluster, shared_namespace: str, stack: LocalStack
) -> None:
    """The including prompt heals once the other exists; both render with the same variables."""
    include = {"include": {"name": "part", "version": "1"}}
    whole = manifests.prompt(shared_namespace, "whole", messages=[include], variables=[])
    cluster.apply(whole)
    cluster.wait_reason(KIND, shared_namespace, "whole", "ReferenceNotFound", timeout=30)
    cluster.apply(template(shared_namespace, "part", "1", "what is {topic}"))
    cluster.wait_ready(KIND, shared_namespace, "whole", timeout=30)
    assert rendered(stack, f"{shared_namespace}.whole") == "what is tea"


def test_every_version_outlives_the_operator(
    cluster: Cluster, shared_namespace: str, operator: Operator, stack: LocalStack
) -> None:
    """A killed operator comes back to all revisions, and clients still get each of them."""
    for number in range(1, 5):
        cluster.apply(template(shared_namespace, "many", str(number), f"{number} " + "{topic}"))
        cluster.wait_ready(KIND, shared_namespace, "many", timeout=30)
    operator.wait_restarted(operator.kill())
    cluster.apply(template(shared_namespace, "many", "5", "5 {topic}"))
    status = cluster.wait_ready(KIND, shared_namespace, "many", timeout=60)["status"]
    assert [item["version"] for item in status["history"]] == ["5", "4", "3", "2", "1"]
    for number in range(1, 6):
        assert rendered(stack, f"{shared_namespace}.many", str(number)) == f"{number} tea"


def revision_objects(cluster: Cluster, namespace: str, name: str) -> set[str]:
    """Names of the ControllerRevisions kept of a prompt."""
    listed = cluster.run("get", "controllerrevisions", "-n", namespace, "-o", "name").split()
    return {each for each in listed if f"/{name}-pt-" in each}


AIMED: dict[str, Any] = {"modelRefs": [{"name": "chat"}], "indexRefs": [{"name": "book"}]}


def test_a_prompt_is_live_once_it_fits_what_it_is_written_for(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI
) -> None:
    """A missing index, then numbers beyond the model, keep a version from being live; what is live only says that it
    does not fit any more.
    """
    namespace = shared_namespace

    def aimed(version: str, tokens: int) -> manifests.Manifest:
        window = {"maxPromptTokens": tokens, "reserveOutputTokens": 100}
        made = template(namespace, "aimed", version, "what is {topic}")
        return made | {"spec": made["spec"] | {"contextWindow": window, "targets": AIMED}}

    cluster.apply(aimed("1", 412))
    found = cluster.wait_reason(KIND, namespace, "aimed", "ReferenceNotFound", timeout=30)
    assert "RAGIndex 'book' does not exist" in condition(found)["message"]
    # It is never built, but the prompt's check only reads its spec.
    cluster.apply(manifests.index(namespace, "book", "nobody", {"docs": manifests.inline({"a.md": "a"})}))
    cluster.wait_ready(KIND, namespace, "aimed", timeout=30)
    cluster.apply(aimed("2", 413))
    found = cluster.wait_reason(KIND, namespace, "aimed", "Incompatible", timeout=30)
    message = condition(found)["message"]
    assert "413 tokens of prompt + 100 of answer = 513, but ModelDeployment chat reads 512" in message
    assert found["status"]["version"] == "1"
    assert use(sdk, chat, {"id": f"{namespace}.aimed", "variables": {"topic": "tea"}}).prompt.version == "1"
    cluster.apply(aimed("3", 411))
    cluster.wait_ready(KIND, namespace, "aimed", timeout=30)
    cluster.patch("ragindexes.lateen.dev", namespace, "book", {"retrieval": {"limit": 50}})
    wait_for(
        lambda: (
            "50 passages of 64 tokens"
            in condition(cluster.get(KIND, namespace, "aimed"), "Compatible").get("message", "")
        ),
        30,
        "nobody says that the index hands over too much",
    )
    assert condition(cluster.get(KIND, namespace, "aimed"))["status"] == "True"
    assert use(sdk, chat, {"id": f"{namespace}.aimed", "variables": {"topic": "tea"}}).prompt.version == "3"
    cluster.delete("ragindexes.lateen.dev", namespace, "book")


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
