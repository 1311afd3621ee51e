# SPDX-License-Identifier: Apache-2.0
"""Many PromptTemplates with many versions on real parts: all of them live, kept and callable, whatever happens meanwhile.

`tests/bench/prompt_scale.py` measures the same at ten times the size and more.
"""

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from stack import manifests
from stack.cluster import Cluster, condition
from stack.local import LocalStack
from stack.parts import Operator
from stack.traffic import traffic
from stack.waiting import wait_for

KIND = "prompttemplates.lateen.dev"
REVISIONS = "controllerrevisions.apps"
TEMPLATES = [f"many-{number:02}" for number in range(20)]
VERSIONS = [str(number) for number in range(1, 6)]

Render = Callable[[str, str | None], str]
"""Name of a template and a version (None: the live one) to the text of its only message."""


@pytest.fixture(scope="module")
def render(stack: LocalStack, shared_namespace: str) -> Iterator[Render]:
    """Dry runs through the gateway."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.gateway_url, trust_env=False, headers=headers, timeout=30) as http:

        def rendered(name: str, version: str | None) -> str:
            body = {"variables": {"topic": "tea"}, **({"version": version} if version else {})}
            reply = http.post(f"/v1/prompts/{shared_namespace}.{name}/render", json=body)
            assert reply.status_code == 200, reply.text
            return str(reply.json()["messages"][0]["content"])

        yield rendered


def apply_version(cluster: Cluster, namespace: str, version: str) -> None:
    """Give every template this version, in one call."""
    cluster.apply(
        *(
            manifests.prompt(
                namespace,
                name,
                version=version,
                messages=[{"role": "user", "content": f"{name} {version} " + "{topic}"}],
                variables=[{"name": "topic"}],
            )
            for name in TEMPLATES
        )
    )


def histories(cluster: Cluster, namespace: str) -> dict[str, list[str]]:
    """Versions, the newest first, of each template that is Ready for its present spec."""
    found = json.loads(cluster.run("get", KIND, "-n", namespace, "-o", "json"))["items"]
    return {
        item["metadata"]["name"]: [each["version"] for each in item["status"]["history"]]
        for item in found
        if condition(item).get("status") == "True"
        and condition(item).get("observedGeneration") == item["metadata"]["generation"]
    }


def wait_kept(cluster: Cluster, namespace: str, versions: list[str]) -> None:
    """Wait until every template is live in the last of `versions`, and lists them all."""
    wanted = dict.fromkeys(TEMPLATES, versions[::-1])
    wait_for(
        lambda: histories(cluster, namespace) == wanted,
        40,
        lambda: f"versions of the templates: {histories(cluster, namespace)}",
        interval=0.3,
    )


def test_every_version_of_every_template_is_kept_and_callable(
    cluster: Cluster, shared_namespace: str, operator: Operator, render: Render
) -> None:
    """While all templates change again and again no dry run fails, and a restarted operator knows every version."""
    apply_version(cluster, shared_namespace, VERSIONS[0])
    wait_kept(cluster, shared_namespace, VERSIONS[:1])
    with traffic(lambda: render(TEMPLATES[0], None), lambda: render(TEMPLATES[-1], VERSIONS[0])):
        for number, version in enumerate(VERSIONS[1:], start=2):
            apply_version(cluster, shared_namespace, version)
            wait_kept(cluster, shared_namespace, VERSIONS[:number])
        operator.wait_restarted(operator.kill())
        cluster.patch(KIND, shared_namespace, TEMPLATES[0], {"retention": "1h"})
        wait_kept(cluster, shared_namespace, VERSIONS)
    for name in TEMPLATES:
        assert [render(name, version) for version in VERSIONS] == [f"{name} {each} tea" for each in VERSIONS]


def test_revisions_that_others_delete_come_back_at_once(
    cluster: Cluster, shared_namespace: str, operator: Operator, render: Render
) -> None:
    """The watch tells of them, not only the next list, and the version is callable the whole time."""
    apply_version(cluster, shared_namespace, VERSIONS[0])
    wait_for(
        lambda: len(histories(cluster, shared_namespace)) == len(TEMPLATES), 40, "the templates are not live"
    )
    before = missed(operator)
    chosen = TEMPLATES[:5]
    with traffic(lambda: render(chosen[0], VERSIONS[0])):
        for name in chosen:
            revision = cluster.status(KIND, shared_namespace, name)["revision"]
            delete_and_await(cluster, shared_namespace, f"{name}-pt-{revision}")
    # A list that overtakes the event now and then is no fault of the watch.
    assert missed(operator) - before < len(chosen)


def delete_and_await(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete a ControllerRevision and wait until there is another one under its name."""
    uid = cluster.get(REVISIONS, namespace, name)["metadata"]["uid"]
    cluster.delete(REVISIONS, namespace, name)

    def is_back() -> bool:
        found = cluster.get(REVISIONS, namespace, name)
        return bool(found) and found["metadata"]["uid"] != uid

    wait_for(is_back, 20, f"the revision {name} does not come back")


def missed(operator: Operator) -> float:
    """ControllerRevisions of which only a list told."""
    return sum(
        value
        for name, labels, value in operator.metrics()
        if name == "lateen_operator_missed_events_total" and labels["kind"] == "ControllerRevision"
    )
