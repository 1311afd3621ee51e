# SPDX-License-Identifier: Apache-2.0
"""Where the documents of a RAGIndex come from: a union of types, part of `rag_index.py`'s spec."""

from typing import Annotated, Literal

from pydantic import Field

from lateen_api.model_source import SecretReference
from lateen_api.schema import (
    ItemName,
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
    """`https://…`, without user name and password. Private addresses are refused unless the administrator allows the host."""

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

    secret_ref: SecretReference | None = None
    """Secret with the credentials of an https repository: `username` and `password`, or `token`."""


_WEB = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][^\s#]*)?$"
ListedAddress = Annotated[str, Field(max_length=1024, pattern=_WEB)]
"""A `WebAddress` without words of its own: for so many of them the API server's budget has no room."""

WebAddress = Annotated[
    str,
    matching(
        _WEB,
        "must be https://host/path, without user name, password and '#' (http:// where the administrator allows it)",
        max_length=1024,
    ),
]


class Crawl(SpecType):
    """Following the links of pages."""

    max_depth: Annotated[int, Field(ge=1, le=10)] = 2
    """Links that lead from a page of `urls` or of the sitemap to the farthest page."""


class HttpSource(SpecType):
    """Pages of web sites. What robots.txt or a page's own `robots` meta tag forbids is left out; pages that have not
    changed since (by their ETag or Last-Modified) are not downloaded again.
    """

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule("size(self.urls) > 0 || has(self.sitemap)", "http needs urls or sitemap"),
        )
    }

    urls: Annotated[list[ListedAddress], Field(max_length=100, json_schema_extra=distinct_items())] = Field(
        default=[]
    )
    """Pages to read. Private addresses are refused unless the administrator allows the host, and http:// likewise."""

    sitemap: WebAddress | None = None
    """A sitemap, or an index of sitemaps; of the pages it lists those of its own site are read."""

    crawl: Crawl | None = None
    """Follow links that stay on the sites of `urls` and `sitemap`. Default: only the pages that are listed."""

    include: Annotated[Globs, Field(min_length=1)] = Field(default=["**"])
    """Glob patterns of the paths (`docs/intro.html`, without the first `/`) of pages to take. Links of other pages are
    still followed."""

    exclude: Globs = Field(default=[])
    """Glob patterns of the paths of pages to leave out; their links are not followed."""

    max_pages: Annotated[int, Field(ge=1, le=10000)] = 1000
    """Most pages to ask for, listed ones first; when there are more, the others are left out and `status.sources` says so."""

    requests_per_second: Annotated[int, Field(ge=1, le=100)] = 5
    """Most requests to one host; a longer `Crawl-delay` of its robots.txt is obeyed, up to ten seconds."""

    secret_ref: SecretReference | None = None
    """Secret with `token` (sent as a bearer token) or `username` and `password`, for the sites of `urls` and `sitemap`."""


class ObjectStoreSource(SpecType):
    """Objects of a bucket. What has not changed since, by its ETag, is not downloaded again."""

    uri: Annotated[
        str,
        matching(
            r"^(s3|gs|az)://[a-z0-9][-a-z0-9._]{1,62}(/[^\s]*)?$",
            "must be s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
            max_length=1024,
        ),
    ]
    """`s3://`, `gs://` or `az://`, the bucket, and the folder within it; without a folder: all of the bucket."""

    include: Annotated[Globs, Field(min_length=1)] = Field(default=DEFAULT_INCLUDE)
    """Glob patterns of the objects to take, below the folder; `**` crosses folders."""

    exclude: Globs = Field(default=[])
    """Glob patterns of the objects to leave out."""

    secret_ref: SecretReference | None = None
    """Secret with the credentials, as for weights: `access_key_id`, `secret_access_key`, `region`, `endpoint` (s3),
    `service_account_key` (gs), `account_name` with `account_key` or `sas_key` (az), or `skip_signature: "true"`.
    Default: the node's own identity."""


ColumnName = Annotated[
    str,
    matching(
        r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", "must be the name of a column: letters, digits and _", max_length=63
    ),
]


class SqlSource(SpecType):
    """Rows of a database: one document per row. Only rows whose `updatedColumn` has changed are read whole."""

    secret_ref: SecretReference
    """Secret whose key `url` is the database's SQLAlchemy URL: `postgresql+psycopg://user:password@host/database`, or
    `sqlite:////path` below a root the administrator allows. Give it a user who can only read what may be indexed."""

    query: Annotated[
        str,
        Field(
            min_length=8, max_length=8192, pattern=r"^\s*([Ss][Ee][Ll][Ee][Cc][Tt]|[Ww][Ii][Tt][Hh])\s[^;]*$"
        ),
    ]
    """One SELECT, without `;`. It runs in a transaction that can't write."""

    id_column: ColumnName = "id"
    """Column that identifies a row; part of the document's id."""

    text_column: ColumnName = "text"
    """Column with the document's text."""

    title_column: ColumnName | None = None
    """Column with the document's title, if there is one."""

    updated_column: ColumnName | None = None
    """Column that changes whenever the row does, such as a time or a version. Default: all rows are read each time."""

    format: Literal["Markdown", "Text"] = "Text"
    """What the text is."""

    max_rows: Annotated[int, Field(ge=1, le=20000)] = 10000
    """Most rows; a query with more is refused as TooLarge."""

    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 300
    """Longest time of reading it."""


class PushSource(SpecType):
    """Documents that clients send: files of `/v1/files` that `POST /v1/vector_stores/{id}/files` puts into the index. They
    are kept in Weaviate, so that a new revision of the index has them too, until clients delete them.
    """


class Source(SpecType):
    """One place documents come from: exactly one of `inline`, `configMap`, `pvc`, `git`, `http`, `objectStore`, `sql`, `push`."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "(has(self.inline) ? 1 : 0) + (has(self.configMap) ? 1 : 0) + (has(self.pvc) ? 1 : 0)"
                " + (has(self.git) ? 1 : 0) + (has(self.http) ? 1 : 0) + (has(self.objectStore) ? 1 : 0)"
                " + (has(self.sql) ? 1 : 0) + (has(self.push) ? 1 : 0) == 1",
                "a source has exactly one of inline, configMap, pvc, git, http, objectStore, sql, push",
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

    http: HttpSource | None = None
    """Pages of web sites."""

    object_store: ObjectStoreSource | None = None
    """Objects of a bucket."""

    sql: SqlSource | None = None
    """Rows of a database."""

    push: PushSource | None = None
    """Documents that clients send. An index has at most one such source."""

    @property
    def secret(self) -> str | None:
        """Name of the Secret with its credentials, if it names one."""
        for kind in (self.git, self.http, self.object_store, self.sql):
            if kind is not None and kind.secret_ref is not None:
                return kind.secret_ref.name
        return None
