# SPDX-License-Identifier: Apache-2.0
"""A rebuild on real parts: told beforehand, done beside the live collection under load; and one that Weaviate refuses."""

import json
from pathlib import Path

import openai

from lateen_api import names
from stack import asking, local, manifests
from stack.cluster import Cluster, condition
from stack.local import LocalStack
from stack.parts import Weaviate
from stack.traffic import traffic
from stack.waiting import wait_for

KIND = "ragindexes.lateen.dev"


def test_a_rebuild_is_planned_and_done_under_constant_load(
    cluster: Cluster,
    shared_namespace: str,
    embedder: str,
    weaviate: Weaviate,
    stack: LocalStack,
    sdk: openai.OpenAI,
    tmp_path: Path,
) -> None:
    """`lateen plan` tells what will be built; while it is, no query fails or finds nothing; then the old collection goes."""
    namespace, store = shared_namespace, f"{shared_namespace}.cut"
    texts = {
        f"{name}.md": f"# {name}\n" + f"The {name} is purple. " * 60 for name in ("zebra", "walrus", "heron")
    }
    spec = {"revisionHistoryLimit": 0}
    source = {"docs": manifests.inline(texts)}
    cluster.apply(manifests.index(namespace, "cut", "embedder", source, **spec))
    before = cluster.wait_ready(KIND, namespace, "cut", timeout=120)["status"]

    wanted = manifests.index(
        namespace, "cut", "embedder", source, **spec, chunking={"size": 32, "overlap": 4}
    )
    file = tmp_path / "new.json"
    file.write_text(json.dumps(wanted))
    words = ("plan", "rag/cut", "-n", namespace, "-f", str(file), "-o", "json", "--exit-code")
    told = local.lateen(*words, state=stack.state.root, timeout=60)
    assert told.returncode == 2, told.stderr
    plan = json.loads(told.stdout)
    assert plan["change"]["action"] == "Rebuild"
    assert (plan["waits"], plan["work"]["documents"]) == (None, 3)
    assert plan["work"]["seconds"] >= 1
    assert plan["work"]["disk_bytes"] > plan["work"]["present_disk_bytes"] > 0

    def search(name: str) -> None:
        assert f"docs/{name}.md" in asking.find(sdk, store, f"the {name} is purple")

    with traffic(lambda: search("zebra"), lambda: search("heron")):
        cluster.apply(wanted)
        after = cluster.wait_ready(KIND, namespace, "cut", timeout=120)["status"]
        old = {before["collection"], names.ledger_collection(before["collection"])}
        wait_for(lambda: not old & weaviate.collections(), 60, "the old collection stays", interval=0.5)
    assert after["revision"] == plan["revision"] != before["revision"]
    assert after["chunks"] > before["chunks"]
    assert after["embedding"]["tokens"] == after["tokens"]
    assert {"BuildStarted", "AliasSwitched"} <= cluster.events(namespace)
    assert local.lateen(*words, state=stack.state.root, timeout=60).returncode == 0


def test_a_collection_that_weaviate_can_not_keep_is_told(
    cluster: Cluster, shared_namespace: str, embedder: str
) -> None:
    """A dynamic index needs a Weaviate with ASYNC_INDEXING: the reason says whose matter it is, the message what helps."""
    source = {"docs": manifests.inline({"a.md": "The zebra is purple."})}
    store = {"vectorIndex": "dynamic"}
    cluster.apply(manifests.index(shared_namespace, "dynamic", "embedder", source, store=store))
    found = cluster.wait_reason(KIND, shared_namespace, "dynamic", "StoreUnsupported", timeout=60)
    assert "ASYNC_INDEXING=true" in condition(found)["message"]
