# SPDX-License-Identifier: Apache-2.0
"""Documents that clients push, on real parts and through the official SDK."""

from typing import Any

import openai

from stack import asking, manifests
from stack.cluster import Cluster
from stack.waiting import wait_for

KIND = "ragindexes.lateen.dev"
ZEBRA = b"# Zebra\nThe zebra is purple on monday."


def test_pushed_documents_are_indexed_kept_and_deleted(
    cluster: Cluster, shared_namespace: str, embedder: str, sdk: openai.OpenAI
) -> None:
    """A file becomes searchable, a new revision of the index has it again, and once deleted it is found no more."""
    namespace, store = shared_namespace, f"{shared_namespace}.inbox"
    push: dict[str, dict[str, Any]] = {"docs": {"push": {}}}
    cluster.apply(manifests.index(namespace, "inbox", embedder, push))
    before = cluster.wait_ready(KIND, namespace, "inbox", timeout=120)["status"]
    assert before["documents"] == 0

    files = sdk.vector_stores.files
    broken = sdk.files.create(file=("broken.pdf", b"%PDF-1.7 nothing"), purpose="assistants")
    files.create(store, file_id=broken.id)
    zebra = files.upload_and_poll(
        vector_store_id=store, file=("zebra.md", ZEBRA), attributes={"team": "red", "level": 3}
    )
    assert (zebra.status, zebra.last_error) == ("completed", None)
    failed = files.poll(broken.id, vector_store_id=store)
    assert failed.last_error is not None
    assert (failed.status, failed.last_error.code) == ("failed", "invalid_file")
    assert {one.id for one in files.list(store)} == {zebra.id, broken.id}
    assert [one.id for one in files.list(store, filter="failed")] == [broken.id]
    assert asking.find(sdk, store, "which colour has the zebra") == [zebra.id]
    blue = sdk.vector_stores.search(
        store, query="zebra", filters={"type": "eq", "key": "team", "value": "blue"}
    )
    assert blue.data == []
    assert sdk.files.content(zebra.id).content == ZEBRA
    files.delete(broken.id, vector_store_id=store)
    cluster.wait_ready(KIND, namespace, "inbox", timeout=60)

    again = manifests.index(namespace, "inbox", embedder, push, chunking={"size": 32, "overlap": 4})
    cluster.apply(again)
    wait_for(
        lambda: cluster.status(KIND, namespace, "inbox")["collection"] != before["collection"], 60, "live"
    )
    after = cluster.wait_ready(KIND, namespace, "inbox", timeout=60)["status"]
    assert (after["documents"], after.get("oldestUnindexedChange")) == (1, None)
    assert asking.find(sdk, store, "which colour has the zebra") == [zebra.id]

    sdk.files.delete(zebra.id)
    assert list(files.list(store)) == []
    wait_for(lambda: not asking.find(sdk, store, "zebra"), 60, "the zebra is still found")
