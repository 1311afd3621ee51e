# SPDX-License-Identifier: Apache-2.0
"""RAGIndex: documents parsed, chunked, embedded and kept searchable behind one alias."""

from typing import Annotated, Any, Literal

from pydantic import Field

from lateen_api import names
from lateen_api.quantities import Quantity
from lateen_api.rag_sources import Source
from lateen_api.schema import ModelReference, SpecType, matching, named_items, rule, rules

MAX_KEPT_REVISIONS = 10
"""Earlier revisions of one index that can be kept."""

REVISED = ("parsing", "pipeline", "chunking", "embedding", "store")
"""Fields of the spec that a revision consists of, beside the embedder's own revision: a change of one builds a new
collection beside the live one, for they decide about vectors and passages."""

LAYOUT = 2
"""Of the collections in Weaviate; a new number builds every index anew beside its live collection."""

SYNCING = ("sources", "sync")
"""Fields of which a change synchronizes the live collection."""


class Parsing(SpecType):
    """How files become text."""

    max_document_bytes: Quantity = "20Mi"
    """Largest document; a larger one is reported as failed, the others are indexed."""


class Pipeline(SpecType):
    """What is done to documents between reading and embedding."""

    duplicates: Literal["RemoveExact", "RemoveNear", "Keep"] = "RemoveExact"
    """Documents with the same text as another are counted but not indexed: `RemoveExact` those with exactly the same,
    `RemoveNear` also those that are as similar as `nearDuplicateSimilarity` says, `Keep` none. When the document that
    is indexed goes, the next sync indexes the other."""

    near_duplicate_similarity: Annotated[
        str,
        matching(
            r"^(0\.[5-9][0-9]{0,3}|1(\.0{1,4})?)$",
            'must be a number in quotes from "0.5" to "1", such as "0.9"',
            max_length=6,
        ),
    ] = "0.9"
    """Share of their runs of three words that two documents must have in common, estimated within about 0.04;
    documents of fewer than 20 words are compared exactly."""

    min_characters: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Documents with fewer letters and digits are counted but not indexed."""

    redact_personal_data: bool = False
    """True replaces e-mail addresses, telephone, card and IBAN numbers and IP addresses by placeholders such as
    `[EMAIL]` before anything is embedded or stored. Names and postal addresses are not found."""


class Chunking(SpecType):
    """How text becomes passages."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(rule("self.overlap < self.size", "overlap must be smaller than size"))
    }

    strategy: Literal["Markdown", "Sentence", "Code", "Token"] = "Markdown"
    """`Markdown` cuts at headings first (those of HTML, Word, mails and other kinds too) and keeps them as a path;
    `Sentence` cuts between sentences only; `Code` cuts source code at its definitions and all else like `Markdown`;
    `Token` cuts every `size` tokens."""

    size: Annotated[int, Field(ge=16, le=8192)] = 200
    """Longest passage in tokens of the embedder, never beyond what the embedder can read."""

    overlap: Annotated[int, Field(ge=0, le=4096)] = 32
    """Tokens that consecutive passages share."""


class Embedding(SpecType):
    """What turns passages and questions into vectors."""

    model_ref: ModelReference
    """A ModelDeployment with `task: embed` in the same namespace."""


class Store(SpecType):
    """How passages and vectors are kept in Weaviate."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "self.compression != 'pq' || self.vectorIndex == 'hnsw'",
                "compression: pq needs vectorIndex: hnsw; the others take rq or bq",
            )
        )
    }

    distance: Literal["cosine", "dot", "l2-squared"] = "cosine"
    """Distance between vectors."""

    vector_index: Literal["hnsw", "flat", "dynamic"] = "hnsw"
    """`hnsw` is a graph: fast, in memory, approximate. `flat` compares with every vector: exact and small, for up to
    some ten thousand passages. `dynamic` is flat until it has 10,000 vectors, then hnsw; Weaviate must run with
    ASYNC_INDEXING (one machine: `ASYNC_INDEXING=true lateen up`), else the reason is `StoreUnsupported`."""

    compression: Literal["none", "rq", "bq", "pq"] = "none"
    """Vectors in memory: whole, or as 8-bit numbers (`rq`, rotational: a quarter of the memory and nearly the same
    results), as single bits (`bq`) or as product codes (`pq`, once there are 100,000 vectors to learn from)."""

    replicas: Annotated[int, Field(ge=1, le=7)] = 1
    """Copies of every passage on different Weaviate nodes; there must be as many nodes."""

    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """Parts of the collection, spread over the Weaviate nodes."""

    tokenization: Literal["word", "lowercase", "whitespace", "trigram"] = "word"
    """What keyword search takes for a word: runs of letters and digits (`word`), or what stands between blanks
    (`lowercase`; `whitespace` with upper and lower case told apart), or every three characters (`trigram`, for
    languages that write no blanks)."""


Share = Annotated[
    str,
    matching(
        r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$",
        'must be a number in quotes from "0" to "1", such as "0.6"',
        max_length=12,
    ),
]


class Rerank(SpecType):
    """A second look at what was found, by a model that reads question and passage together."""

    model_ref: ModelReference
    """A ModelDeployment with `task: rerank` in the same namespace. While it does not answer, passages keep the
    search's order, and the reply says so."""

    candidates: Annotated[int, Field(ge=2, le=200)] = 30
    """Passages that are found first and then judged."""


class Retrieval(SpecType):
    """How questions find passages; changes take effect at once, without rebuilding."""

    limit: Annotated[int, Field(ge=1, le=50)] = 3
    """Passages per question when the request does not say."""

    mode: Literal["Hybrid", "Vector", "Keyword"] = "Hybrid"
    """`Hybrid` fuses vector and keyword search, the others use one of them."""

    alpha: Share = "0.3"
    """Weight of the vector search in `Hybrid`, 0 to 1."""

    fusion: Literal["RelativeScore", "Ranked"] = "RelativeScore"
    """How `Hybrid` joins the two searches: by their scores, each scaled to its best and worst, or by rank alone
    (reciprocal rank fusion)."""

    min_score: Share = "0"
    """Passages that score lower are not used, even if none is left. Scores are the reranker's where there is one; in
    `Hybrid` they are relative to the best of the same search, so that without a reranker the best one always stays."""

    diversity: Share = "0"
    """How much a passage that resembles a better one is moved back: 0 not at all, 1 regardless of its own score
    (maximal marginal relevance)."""

    per_document: Annotated[int, Field(ge=1, le=50)] | None = None
    """Most passages of one document; default: no bound."""

    neighbours: Annotated[int, Field(ge=0, le=5)] = 0
    """How many passages before and after each found one are added to it, so that answers see what surrounds it."""

    max_context_tokens: Annotated[int, Field(ge=16, le=131072)] | None = None
    """Most tokens of all passages, as the embedder counts; the best passage is used in any case. Default: no bound."""

    rerank: Rerank | None = None
    """A second look by a reranker; default: none."""


class Quality(SpecType):
    """What a new collection has to prove before queries go to it: as many passages as its ledger says, vectors of the
    embedder's length, and searches that find what is there. While it does not, the collection before it keeps answering.
    """

    min_recall: Share = "0.9"
    """Smallest share of the `k` nearest passages that a vector search must find, compared with an exact one; "0" asks for
    none. `store.vectorIndex` and `store.compression` decide how much is found."""

    samples: Annotated[int, Field(ge=1, le=1000)] = 100
    """Passages, spread evenly over the collection, whose neighbours are searched in both ways."""

    k: Annotated[int, Field(ge=1, le=100)] = 10
    """Neighbours of each."""


class Schedule(SpecType):
    """When sources are read again without a change of the resource."""

    cron: Annotated[
        str,
        matching(
            r"^(\S+\s+){4}\S+$",
            "must have five fields: minute, hour, day of month, month, day of week, such as '0 * * * *'",
            max_length=128,
        ),
    ]
    """Five fields: minute, hour, day of month, month, day of week."""

    time_zone: Annotated[
        str,
        matching(r"^[A-Za-z0-9_+/-]{1,64}$", "must be an IANA time zone such as Europe/Rome", max_length=64),
    ] = "Etc/UTC"
    """IANA time zone of the schedule."""


class Sync(SpecType):
    """What a synchronization does with documents that are gone."""

    delete_policy: Literal["Delete", "Keep"] = "Delete"
    """`Delete`: a document that its source no longer has leaves the index with the next synchronization. `Keep`: it
    stays until its source is taken out of the spec, and clients can't delete what they have pushed. A source that can't
    be read loses nothing with either."""


_ONE_PUSH = rule(
    "self.filter(source, has(source.push)).size() <= 1", "an index has at most one source of the type push"
)


class RAGIndexSpec(SpecType):
    """A collection of documents, kept fresh and searchable."""

    sources: Annotated[
        list[Source], Field(min_length=1, max_length=32, json_schema_extra=named_items() | rules(_ONE_PUSH))
    ]
    """Where documents come from."""

    parsing: Parsing = Parsing()
    """How files become text."""

    pipeline: Pipeline = Pipeline()
    """What is done to documents before they are cut. A change builds a new revision beside the live one."""

    chunking: Chunking = Chunking()
    """How text becomes passages. A change builds a new revision beside the live one."""

    embedding: Embedding
    """What turns passages and questions into vectors. A change builds a new revision beside the live one."""

    store: Store = Store()
    """How vectors are kept. A change builds a new revision beside the live one."""

    retrieval: Retrieval = Retrieval()
    """How questions find passages."""

    quality: Quality = Quality()
    """What a new collection has to prove before queries go to it."""

    schedule: Schedule | None = None
    """When sources are read again. Without it: when the resource or a ConfigMap changes, or the annotation
    `lateen.dev/sync` gets a new value (`lateen sync rag/NAME`)."""

    sync: Sync = Sync()
    """What a synchronization does with documents that are gone."""

    revision_history_limit: Annotated[int, Field(ge=0, le=MAX_KEPT_REVISIONS)] = 1
    """Earlier revisions whose collections stay beside the live one: going back to one of them, by its old spec or
    `lateen rollback rag/NAME`, embeds nothing. Each takes as much disk, and with `hnsw` memory, as the live one."""

    deletion_policy: Literal["Delete", "Retain"] = "Delete"
    """What becomes of the collections in Weaviate when this resource is deleted. `Retain` leaves them there, an Event names
    them; an index that is made later, of the same name too, takes none of them over."""

    suspend: bool = False
    """True stops syncing without deleting anything; what is live keeps serving."""

    def revision(self, embedder_revision: str) -> str:
        """Hash of what changes vectors or chunks; sources, retrieval and schedule change in place."""
        part = self.dump()
        content = {key: part.get(key) for key in REVISED}
        return names.revision(content | {"embedder": embedder_revision, "layout": LAYOUT})

    def synced(self) -> dict[str, Any]:
        """What of the spec decides which documents are indexed."""
        part = self.dump()
        return {key: part[key] for key in SYNCING}
