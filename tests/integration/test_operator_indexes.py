# SPDX-License-Identifier: Apache-2.0
"""RAGIndexes on real parts: built, synced step by step, rebuilt, broken, healed, deleted."""

import re
from typing import Any

import openai
import pytest

from lateen_api import names
from stack import asking, manifests
from stack.cluster import Cluster, condition
from stack.local import LocalStack
from stack.parts import Weaviate
from stack.repositories import Repository
from stack.traffic import traffic
from stack.waiting import wait_for
from unit import parsing_samples as samples

KIND = "ragindexes.lateen.dev"
MODEL = "modeldeployments.lateen.dev"
ANIMALS = {
    "zebra.md": "# Zebra\nThe zebra is purple on monday.",
    "walrus.md": "# Walrus\nThe walrus plays the trumpet.",
    "heron.md": "# Heron\nA heron lives in the harbour.",
}

KINDS: dict[str, tuple[bytes, str]] = {
    "page.html": (samples.PAGE, "purple zebra"),
    "report.pdf": (samples.pdf("Introduction", "The walrus plays the trumpet."), "walrus trumpet"),
    "handbook.docx": (samples.word(), "thirty days leave"),
    "talk.pptx": (samples.slides(), "silver comet"),
    "prices.xlsx": (samples.sheets(), "lion price"),
    "animals.csv": (b"name,home\ngiraffe,savanna\nkoala,eucalyptus\n", "koala eucalyptus"),
    "records.jsonl": (b'{"river": "Danube"}\n{"river": "Rhine"}\n', "Danube river"),
    "code.py": (b"def reticulate(splines):\n    return splines\n", "reticulate splines"),
    "party.eml": (samples.MAIL, "bring cake"),
    "harbour.txt": ("The heron lives in the harbour.".encode("utf-16"), "heron harbour"),
    "volcano.md": (b"---\nteam: core\n---\n# Volcano\n\nThe volcano sleeps.", "volcano sleeps"),
}
"""A file of every kind, with what is asked for it."""


def built(
    cluster: Cluster, namespace: str, name: str, sources: dict[str, Any], **spec: Any
) -> dict[str, Any]:
    """An index that is Ready; its status."""
    cluster.apply(manifests.index(namespace, name, "embedder", sources, **spec))
    found: dict[str, Any] = cluster.wait_ready(KIND, namespace, name, timeout=120)["status"]
    return found


def synced(cluster: Cluster, namespace: str, name: str, before: str, timeout: float = 90) -> dict[str, Any]:
    """The status after the next synchronization, when the fingerprint is no longer `before`."""

    def newer() -> dict[str, Any]:
        status = cluster.status(KIND, namespace, name)
        return status if status.get("fingerprint") not in (None, before) else {}

    return wait_for(
        newer, timeout, lambda: f"not synced: {cluster.status(KIND, namespace, name)}", interval=0.5
    )


def test_documents_can_be_found_once_the_index_is_ready(
    cluster: Cluster, shared_namespace: str, embedder: str, weaviate: Weaviate, sdk: openai.OpenAI
) -> None:
    """Ready means that a search through the SDK finds the right document; the status counts what there is."""
    status = built(cluster, shared_namespace, "animals", {"docs": manifests.inline(ANIMALS)})
    assert status["vectorStoreId"] == f"{shared_namespace}.animals"
    assert status["documents"] == 3
    assert status["chunks"] == len(weaviate.objects(status["collection"]))
    assert status["collection"] in weaviate.aliases().values()
    for document, question in (("zebra", "is the zebra purple"), ("walrus", "who plays the trumpet")):
        assert asking.find(sdk, status["vectorStoreId"], question)[0] == f"docs/{document}.md"


def test_an_edited_document_is_synced_alone(
    cluster: Cluster, shared_namespace: str, embedder: str, weaviate: Weaviate, sdk: openai.OpenAI
) -> None:
    """Editing, adding and removing keys of a ConfigMap embeds only what is new, in the same collection."""
    namespace = shared_namespace
    cluster.apply(manifests.config_map(namespace, "pages", ANIMALS))
    before = built(cluster, namespace, "pages", {"pages": {"configMap": {"name": "pages"}}})
    assert weaviate.report(before["collection"])["embedded"] == before["chunks"]

    changed = {
        "zebra.md": "# Zebra\nThe zebra is now orange.",
        "walrus.md": ANIMALS["walrus.md"],
        "tiger.md": "# Tiger\nThe tiger sleeps in the office.",
    }
    cluster.apply(manifests.config_map(namespace, "pages", changed))
    after = synced(cluster, namespace, "pages", before["fingerprint"])

    report = weaviate.report(after["collection"])
    assert after["collection"] == before["collection"]
    assert (report["embedded"], report["removed"], report["documents"]) == (2, 1, 3)
    store = f"{namespace}.pages"
    wait_for(
        lambda: "orange" in asking.texts(sdk, store, "which colour has the zebra"), 10, "the edit is missing"
    )
    assert "purple" not in asking.texts(sdk, store, "purple zebra", limit=50)
    assert "pages/tiger.md" in asking.find(sdk, store, "tiger")
    assert "pages/heron.md" not in asking.find(sdk, store, "heron harbour", limit=50)


def test_a_git_source_is_read_at_its_commit_and_follows_a_push(
    cluster: Cluster,
    shared_namespace: str,
    embedder: str,
    weaviate: Weaviate,
    stack: LocalStack,
    sdk: openai.OpenAI,
) -> None:
    """Files of a repository are indexed by path; after a commit and a sync only the changed file is embedded."""
    namespace = shared_namespace
    repository = Repository.create(stack.volume("repositories") / namespace)
    first = repository.commit({f"docs/{name}": text for name, text in ANIMALS.items()})
    source = {"git": {"url": repository.url, "ref": "main", "include": ["docs/**/*.md"]}}
    before = built(cluster, namespace, "book", {"book": source})
    assert weaviate.report(before["collection"])["commits"] == {"book": first}
    assert asking.find(sdk, f"{namespace}.book", "zebra")[0] == "book/docs/zebra.md"

    second = repository.commit({"docs/zebra.md": "# Zebra\nThe zebra is now orange."})
    cluster.run("annotate", KIND, "book", "-n", namespace, f"{names.SYNC_ANNOTATION}=after-the-push")
    after = synced(cluster, namespace, "book", before["fingerprint"])
    report = weaviate.report(after["collection"])
    assert report["commits"] == {"book": second}
    assert report["embedded"] == 1
    assert "orange" in asking.texts(sdk, f"{namespace}.book", "which colour has the zebra")


def test_documents_of_every_kind_can_be_found(
    cluster: Cluster, shared_namespace: str, embedder: str, stack: LocalStack, sdk: openai.OpenAI
) -> None:
    """A folder with a file of every kind is indexed."""
    namespace = shared_namespace
    folder = stack.volume("documents") / f"{namespace}-kinds"
    folder.mkdir()
    for name, (data, _) in KINDS.items():
        (folder / name).write_bytes(data)
    (folder / "animals.csv.metadata.json").write_text('{"team": "zoo"}')
    (folder / "zebra-again.txt").write_text("The heron lives\u200b in the harbour.")
    source = {"pvc": {"claimName": "documents", "path": folder.name, "include": ["**/*"]}}
    status = built(cluster, namespace, "kinds", {"files": source}, retrieval={"mode": "Keyword"})
    assert (status["documents"], status["pipeline"]["duplicates"]) == (len(KINDS), 1)
    for name, (_, question) in KINDS.items():
        assert asking.find(sdk, f"{namespace}.kinds", question)[0] == f"files/{name}", question


def test_a_missing_configmap_heals_when_it_appears(
    cluster: Cluster, shared_namespace: str, embedder: str, sdk: openai.OpenAI
) -> None:
    """Nothing but the ConfigMap is needed."""
    namespace = shared_namespace
    cluster.apply(manifests.index(namespace, "soon", "embedder", {"soon": {"configMap": {"name": "soon"}}}))
    cluster.wait_reason(KIND, namespace, "soon", "ReferenceNotFound", timeout=30)
    cluster.apply(manifests.config_map(namespace, "soon", ANIMALS))
    cluster.wait_ready(KIND, namespace, "soon", timeout=90)
    assert asking.find(sdk, f"{namespace}.soon", "zebra")


def test_an_index_waits_for_its_embedder_and_follows_it(
    cluster: Cluster, namespace: str, sdk: openai.OpenAI
) -> None:
    """Without its embedder an index says so, heals when it appears, and moves to its new weights without a failed query."""
    cluster.apply(manifests.index(namespace, "notes", "embedder", {"docs": manifests.inline(ANIMALS)}))
    found = cluster.wait_reason(KIND, namespace, "notes", "ReferenceNotFound", timeout=30)
    assert "embedder" in condition(found)["message"]
    cluster.apply(manifests.model(namespace, "embedder", "embed", "tiny-embed"))
    before = cluster.wait_ready(KIND, namespace, "notes", timeout=240)["status"]

    store = f"{namespace}.notes"
    with traffic(lambda: asking.texts(sdk, store, "zebra").index("zebra")):
        cluster.patch(MODEL, namespace, "embedder", {"source": {"uri": "pvc://models/tiny-embed-2"}})
        wait_for(
            lambda: cluster.status(KIND, namespace, "notes").get("collection") != before["collection"],
            240,
            "the index stays with the old vectors",
            interval=0.5,
        )
        cluster.wait_ready(KIND, namespace, "notes", timeout=60)


def test_an_index_can_not_embed_with_a_generator(cluster: Cluster, namespace: str) -> None:
    """A reference of the wrong task is Incompatible."""
    cluster.apply(
        manifests.model(namespace, "chat", "generate", "tiny-chat", replicas=0),
        manifests.index(namespace, "notes", "chat", {"docs": manifests.inline(ANIMALS)}),
    )
    cluster.wait_reason(KIND, namespace, "notes", "Incompatible", timeout=30)


def test_a_model_in_use_is_not_deleted(cluster: Cluster, namespace: str) -> None:
    """Deleting an embedder waits for the indexes that use it, says which, and then goes on by itself."""
    cluster.apply(
        manifests.model(namespace, "held", "embed", "tiny-embed", replicas=0),
        manifests.index(namespace, "holder", "held", {"docs": manifests.inline(ANIMALS)}),
    )
    cluster.wait_reason(KIND, namespace, "holder", "ReferenceNotReady", timeout=30)
    cluster.delete(MODEL, namespace, "held", wait=False)
    found = cluster.wait_condition(MODEL, namespace, "held", lambda ready: ready["reason"] == "InUse", 30)
    assert "holder" in condition(found)["message"]
    cluster.delete(KIND, namespace, "holder")
    wait_for(lambda: not cluster.get(MODEL, namespace, "held"), 60, "the model stays", interval=0.5)


def test_a_suspended_index_answers_but_does_not_sync(
    cluster: Cluster, shared_namespace: str, embedder: str, sdk: openai.OpenAI
) -> None:
    """`spec.suspend` freezes what can be found; taking it away brings the index up to date."""
    namespace = shared_namespace
    cluster.apply(manifests.config_map(namespace, "frozen", ANIMALS))
    before = built(cluster, namespace, "frozen", {"docs": {"configMap": {"name": "frozen"}}})
    cluster.patch(KIND, namespace, "frozen", {"suspend": True})
    cluster.wait_condition(KIND, namespace, "frozen", lambda ready: ready["reason"] == "Suspended", 30)
    cluster.apply(manifests.config_map(namespace, "frozen", {"zebra.md": "The zebra is orange."}))
    assert "purple" in asking.texts(sdk, f"{namespace}.frozen", "purple zebra")
    cluster.patch(KIND, namespace, "frozen", {"suspend": False})
    assert synced(cluster, namespace, "frozen", before["fingerprint"])["documents"] == 1
    wait_for(lambda: "orange" in asking.texts(sdk, f"{namespace}.frozen", "zebra"), 10, "the edit is missing")


def test_a_deleted_index_leaves_nothing_in_weaviate(
    cluster: Cluster, shared_namespace: str, embedder: str, weaviate: Weaviate, sdk: openai.OpenAI
) -> None:
    """Chunks, ledger and alias go with the resource, and clients get 404."""
    status = built(cluster, shared_namespace, "brief", {"docs": manifests.inline(ANIMALS)})
    alias = next(name for name, target in weaviate.aliases().items() if target == status["collection"])
    cluster.delete(KIND, shared_namespace, "brief")
    prefix = alias.removesuffix("_live")
    assert not weaviate.collections(prefix)
    assert not weaviate.aliases(prefix)
    with pytest.raises(openai.NotFoundError):
        asking.find(sdk, f"{shared_namespace}.brief", "zebra")


def test_the_documents_of_an_index_are_listed(
    cluster: Cluster, shared_namespace: str, embedder: str, sdk: openai.OpenAI
) -> None:
    """Page by page through the SDK, each with its status; one can be asked for by its id, which is a path."""
    namespace = shared_namespace
    documents = manifests.inline({**ANIMALS, "big/whale.md": "The whale is big. " * 100})
    parsing = {"maxDocumentBytes": "1Ki"}
    cluster.apply(manifests.index(namespace, "listed", "embedder", {"docs": documents}, parsing=parsing))
    wait_for(lambda: cluster.status(KIND, namespace, "listed").get("failed"), 90, "no document failed")
    store = f"{namespace}.listed"
    wait_for(lambda: store in {one.id for one in sdk.vector_stores.list(limit=100)}, 30, "it is not listed")
    for order, expected in (("asc", 1), ("desc", -1)):
        listed = list(sdk.vector_stores.files.list(store, limit=3, order=order))  # type: ignore[arg-type]
        assert [(one.id, one.status) for one in listed] == [
            ("docs/big/whale.md", "failed"), ("docs/heron.md", "completed"),
            ("docs/walrus.md", "completed"), ("docs/zebra.md", "completed"),
        ][::expected]  # fmt: skip
    one = sdk.vector_stores.files.retrieve("docs/big/whale.md", vector_store_id=store)
    assert one.last_error is not None
    assert (one.status, one.last_error.code) == ("failed", "invalid_file")
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.files.retrieve("docs/none.md", vector_store_id=store)


def test_a_search_is_filtered_reranked_and_surrounded(
    cluster: Cluster, shared_namespace: str, embedder: str, sdk: openai.OpenAI
) -> None:
    """Filters choose documents; a reranker that is missing is told and made up for, then it judges; neighbours come along;
    nothing of it builds the index again.
    """
    namespace, store = shared_namespace, f"{shared_namespace}.judged"
    long = "# Tiger\n" + "\n\n".join(f"The tiger has stripe {number} and more words." for number in range(40))
    sources = {"docs": manifests.inline({**ANIMALS, "tiger.md": long})}
    before = built(cluster, namespace, "judged", sources)
    only = {"type": "ne", "key": "filename", "value": "zebra.md"}
    assert "docs/zebra.md" in asking.find(sdk, store, "the purple zebra", limit=50)
    found = sdk.vector_stores.search(store, query="the purple zebra", filters=only, max_num_results=50)  # type: ignore[arg-type]
    assert {"docs/walrus.md", "docs/tiger.md"} <= {hit.file_id for hit in found.data}
    assert "docs/zebra.md" not in {hit.file_id for hit in found.data}

    cluster.patch(
        KIND,
        namespace,
        "judged",
        {"retrieval": {"rerank": {"modelRef": {"name": "judge"}}, "perDocument": 1}},
    )
    cluster.wait_reason(KIND, namespace, "judged", "ReferenceNotFound")
    raw = sdk.vector_stores.with_raw_response.search(store, query="purple")
    assert raw.headers["x-lateen-retrieval"] == f"not_reranked;index={store}"
    assert raw.parse().data

    cluster.apply(manifests.model(namespace, "judge", "rerank", "tiny-rerank"))
    cluster.wait_ready(KIND, namespace, "judged", timeout=180)

    def reranked() -> bool:
        reply = sdk.vector_stores.with_raw_response.search(store, query="the purple zebra")
        return "x-lateen-retrieval" not in reply.headers and reply.parse().data[0].file_id == "docs/zebra.md"

    wait_for(reranked, 120, "it is not reranked")
    tiger = sdk.vector_stores.search(store, query="the tiger has stripe 20 and more words").data[0]
    alone = tiger.content[0].text.count("stripe")
    cluster.patch(KIND, namespace, "judged", {"retrieval": {"limit": 1, "neighbours": 1, "rerank": None}})

    def surrounded() -> bool:
        hits = sdk.vector_stores.search(store, query="the tiger has stripe 20 and more words").data
        stripes = [int(number) for number in re.findall(r"stripe (\d+)", hits[0].content[0].text)]
        in_order = list(range(stripes[0], stripes[0] + len(stripes)))
        return len(hits) == 1 and stripes == in_order and len(stripes) > alone

    wait_for(surrounded, 30, "neighbours are missing or told twice")
    assert cluster.status(KIND, namespace, "judged")["collection"] == before["collection"]
