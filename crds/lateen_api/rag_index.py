# SPDX-License-Identifier: Apache-2.0
"""RAGIndex: documents parsed, chunked, embedded and kept searchable behind one alias."""

from typing import Annotated, Literal

from pydantic import Field

from lateen_api import names
from lateen_api.quantities import Quantity
from lateen_api.schema import (
    ItemName,
    ModelReference,
    SpecType,
    distinct_items,
    matching,
    named_items,
    rule,
    rules,
)

_RELATIVE = rule(
    "!self.path.startsWith('/') && !self.path.contains('..')",
    "path is relative to the source's root and has no '..'",
)
Glob = Annotated[str, Field(min_length=1, max_length=256)]
Globs = Annotated[list[Glob], Field(max_length=32, json_schema_extra=distinct_items())]
RelativePath = Annotated[str, Field(max_length=512)]
ObjectName = Annotated[
    str,
    matching(
        r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        "must be the name of an object: lower-case letters, digits, '-' and '.'",
        max_length=253,
    ),
]
DEFAULT_INCLUDE = [
    f"**/*.{suffix}"
    for suffix in ("md", "markdown", "txt", "html", "htm", "pdf", "docx", "pptx", "xlsx", "csv", "tsv", "eml")
]
"""Documents that people write for people; code and data have to be asked for."""


class InlineDocument(SpecType):
    """A document written into the resource."""

    name: Annotated[
        str,
        matching(
            r"^[A-Za-z0-9][-A-Za-z0-9._/ ]{0,254}$",
            "must be a file name such as leave.md: letters, digits, blanks and -._/",
            max_length=255,
        ),
    ]
    """File name; `.md` and `.markdown` are Markdown. Other kinds of text are known by content, then by name."""

    text: Annotated[str, Field(min_length=1, max_length=65536)]
    """The document."""


class InlineSource(SpecType):
    """Documents written into the resource."""

    documents: Annotated[
        list[InlineDocument], Field(min_length=1, max_length=32, json_schema_extra=named_items())
    ]
    """The documents, with distinct names."""


class ConfigMapSource(SpecType):
    """One document per key of a ConfigMap of the same namespace; the key is the file name."""

    name: ObjectName
    """Name of the ConfigMap. Changes of its content are synced when they are seen, without waiting for the schedule."""


class PvcSource(SpecType):
    """Files of a volume that the Ray nodes mount."""

    model_config = SpecType.model_config | {"json_schema_extra": rules(_RELATIVE)}

    claim_name: ObjectName
    """Name of the PersistentVolumeClaim."""

    path: RelativePath = ""
    """Folder within the volume; default: all of it."""

    include: Annotated[Globs, Field(min_length=1)] = Field(default=DEFAULT_INCLUDE)
    """Glob patterns of the files to take; `**` crosses folders."""

    exclude: Globs = Field(default=[])
    """Glob patterns of the files to leave out."""


class GitSource(SpecType):
    """Files of a Git repository."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            _RELATIVE,
            rule(
                "self.url.startsWith('https://') || self.url.startsWith('file:///')",
                "url must start with https:// (or file:/// below a root the administrator allows)",
            ),
        )
    }

    url: Annotated[str, Field(min_length=9, max_length=1024)]
    """`https://…` of a public repository. Private addresses are refused."""

    ref: Annotated[
        str,
        matching(
            r"^[A-Za-z0-9][-A-Za-z0-9._/]{0,254}$", "must be a branch, a tag or a commit", max_length=255
        ),
    ] = "HEAD"
    """Branch, tag or commit."""

    path: RelativePath = ""
    """Folder within the repository; default: all of it."""

    include: Annotated[Globs, Field(min_length=1)] = Field(default=DEFAULT_INCLUDE)
    """Glob patterns of the files to take; `**` crosses folders."""

    exclude: Globs = Field(default=[])
    """Glob patterns of the files to leave out."""


class Source(SpecType):
    """One place documents come from: exactly one of `inline`, `configMap`, `pvc`, `git`."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "(has(self.inline) ? 1 : 0) + (has(self.configMap) ? 1 : 0) + (has(self.pvc) ? 1 : 0)"
                " + (has(self.git) ? 1 : 0) == 1",
                "a source has exactly one of inline, configMap, pvc, git",
            ),
        )
    }

    name: ItemName
    """Name of the source, unique in the index; part of every document's id."""

    inline: InlineSource | None = None
    """Documents written into the resource."""

    config_map: ConfigMapSource | None = None
    """One document per key of a ConfigMap."""

    pvc: PvcSource | None = None
    """Files of a volume."""

    git: GitSource | None = None
    """Files of a Git repository."""


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
    """How vectors are kept in Weaviate."""

    distance: Literal["cosine", "dot", "l2-squared"] = "cosine"
    """Distance between vectors."""


class Retrieval(SpecType):
    """How questions find passages; changes take effect at once, without rebuilding."""

    limit: Annotated[int, Field(ge=1, le=50)] = 3
    """Passages per question when the request does not say."""

    mode: Literal["Hybrid", "Vector", "Keyword"] = "Hybrid"
    """`Hybrid` fuses vector and keyword search, the others use one of them."""

    alpha: Annotated[
        str,
        matching(
            r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$",
            'must be a number in quotes from "0" to "1", such as "0.6"',
            max_length=12,
        ),
    ] = "0.6"
    """Weight of the vector search in `Hybrid`, 0 to 1."""


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


class RAGIndexSpec(SpecType):
    """A collection of documents, kept fresh and searchable."""

    sources: Annotated[list[Source], Field(min_length=1, max_length=32, json_schema_extra=named_items())]
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

    schedule: Schedule | None = None
    """When sources are read again. Without it: when the resource or a ConfigMap changes, or the annotation
    `lateen.dev/sync` gets a new value."""

    suspend: bool = False
    """True stops syncing without deleting anything; what is live keeps serving."""

    def revision(self, embedder_revision: str) -> str:
        """Hash of what changes vectors or chunks; sources, retrieval and schedule change in place."""
        part = self.dump()
        content = {key: part.get(key) for key in ("parsing", "pipeline", "chunking", "store")}
        return names.revision(content | {"embedder": embedder_revision})
