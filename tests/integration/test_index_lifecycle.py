# SPDX-License-Identifier: Apache-2.0
"""Revisions of an index on real parts: held back, gone back to, left behind."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai

from lateen_api import names
from stack import asking, manifests, tiny
from stack.cluster import Cluster, condition
from stack.local import LocalStack
from stack.parts import Weaviate
from stack.traffic import traffic
from stack.waiting import wait_for

KIND = "ragindexes.lateen.dev"
LATEEN = Path(sys.executable).with_name("lateen")


def many(count: int) -> str:
    """A document of that many passages, no two alike."""
    chance = random.Random(1)  # noqa: S311
    return "\n\n".join(" ".join(chance.choices(tiny.WORDS.split(), k=12)) for _ in range(count))


def go_back(stack: LocalStack, namespace: str, name: str) -> None:
    """`lateen rollback`, as a user types it."""
    words = ["rollback", f"rag/{name}", "-n", namespace, "--state-dir", str(stack.state.root)]
    subprocess.run([str(LATEEN), *words], check=True, capture_output=True, timeout=60)


def moved(cluster: Cluster, namespace: str, away_from: str) -> dict[str, Any]:
    """The status once another collection than `away_from` is live and all is well."""

    def is_other() -> bool:
        rows = cluster.status(KIND, namespace, "kept").get("revisions") or [{}]
        return bool(rows[0].get("live")) and rows[0]["collection"] != away_from

    wait_for(is_other, 60, "queries stay where they were", interval=0.3)
    found: dict[str, Any] = cluster.wait_ready(KIND, namespace, "kept", timeout=60)["status"]
    return found


def test_a_poor_revision_is_held_back_and_an_earlier_one_comes_back_at_once(
    cluster: Cluster,
    shared_namespace: str,
    embedder: str,
    stack: LocalStack,
    weaviate: Weaviate,
    sdk: openai.OpenAI,
) -> None:
    """Without a failed query: single bits find too little, so that the old collection stays live; once they may, they go
    live unbuilt; a rollback moves back with no build; `deletionPolicy: Retain` leaves both collections behind.
    """
    namespace, store = shared_namespace, f"{shared_namespace}.kept"
    source = {"docs": manifests.inline({"many.md": many(500)})}
    spec = {"chunking": {"size": 16, "overlap": 0}, "deletionPolicy": "Retain"}
    cluster.apply(manifests.index(namespace, "kept", "embedder", source, **spec))
    first = cluster.wait_ready(KIND, namespace, "kept", timeout=120)["status"]
    assert float(first["quality"]["recall"]) >= 0.9
    assert first["quality"]["objects"] == first["chunks"] >= 500
    report = weaviate.report(first["collection"])
    with traffic(lambda: asking.find(sdk, store, "a purple zebra")[0]):
        poor = {"store": {"compression": "bq"}, "quality": {"minRecall": "1"}}
        cluster.patch(KIND, namespace, "kept", poor)
        held = cluster.wait_reason(KIND, namespace, "kept", "QualityCheckFailed", timeout=120)
        assert "recall@10" in condition(held)["message"]
        assert held["status"]["collection"] == first["collection"]
        cluster.patch(KIND, namespace, "kept", {"quality": {"minRecall": "0"}})
        second = moved(cluster, namespace, first["collection"])
        go_back(stack, namespace, "kept")
        after = moved(cluster, namespace, second["collection"])
    assert float(second["quality"]["recall"]) < 1
    assert weaviate.report(first["collection"]) == report  # no build of it ran
    both = [first["collection"], second["collection"]]
    assert [row["collection"] for row in after["revisions"]] == both
    cluster.delete(KIND, namespace, "kept")
    check_retained(cluster, weaviate, namespace, both)


def check_retained(cluster: Cluster, weaviate: Weaviate, namespace: str, collections: list[str]) -> None:
    """They are all that is left, and are then removed as a user would."""
    kept = {*collections, *map(names.ledger_collection, collections)}
    prefix = collections[0].rpartition("_")[0]
    try:
        assert weaviate.collections(prefix) == kept
        assert not weaviate.aliases(prefix)
        assert "Retained" in cluster.events(namespace)
    finally:
        for name in kept:
            weaviate.delete(name)
