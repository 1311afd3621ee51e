# SPDX-License-Identifier: Apache-2.0
"""Objects that the API server takes or refuses, and the words users read about them; asked of it and of `lateen validate`."""

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from lateen_api import names

Changes = dict[str, Any]

MISSING = object()
"""As a new value: the field is left out."""

SPECS: dict[str, dict[str, Any]] = {
    "ModelDeployment": {"task": "generate", "source": {"uri": "pvc://models/chat"}, "replicas": 1},
    "PromptTemplate": {
        "version": "1.0",
        "messages": [{"role": "user", "content": "{question}"}],
        "variables": [{"name": "question"}],
    },
    "RAGIndex": {
        "sources": [{"name": "notes", "inline": {"documents": [{"name": "a.md", "text": "A"}]}}],
        "embedding": {"modelRef": {"name": "minilm"}},
    },
}


@dataclass(frozen=True)
class Case:
    """A valid minimal object of `kind` with some fields changed, and what users read about it."""

    kind: str
    changes: Changes
    message: str = ""
    name: str = "case"

    def manifest(self) -> str:
        """The object as JSON."""
        spec = deepcopy(SPECS[self.kind])
        for path, value in self.changes.items():
            _change(spec, path.split("."), value)
        meta = {"name": self.name, "namespace": "default"}
        return json.dumps(
            {"apiVersion": names.API_VERSION, "kind": self.kind, "metadata": meta, "spec": spec}
        )

    def __str__(self) -> str:
        changes = ",".join(f"{path}={_short(value)}" for path, value in self.changes.items())
        return f"{self.kind}-{changes or self.name}"


def _short(value: object) -> str:
    return "missing" if value is MISSING else json.dumps(value)[:40]


def _change(node: Any, path: list[str], value: Any) -> None:
    """Set, or with MISSING remove, what `path` leads to; numbers are positions in lists."""
    for step in path[:-1]:
        node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
    last: Any = int(path[-1]) if isinstance(node, list) else path[-1]
    if value is MISSING:
        del node[last]
    else:
        node[last] = value


def model(message: str, **changes: Any) -> Case:
    """A ModelDeployment; `__` in a keyword is the dot of a path."""
    return Case("ModelDeployment", {key.replace("__", "."): value for key, value in changes.items()}, message)


def autoscaling(message: str, **changes: Any) -> Case:
    """A ModelDeployment that follows the load."""
    scaling = {name: value for name, value in ({"maxReplicas": 2} | changes).items() if value is not MISSING}
    return model(message, replicas=MISSING, autoscaling=scaling)


def rollout(message: str, **changes: Any) -> Case:
    """A ModelDeployment with a way to roll out."""
    return model(message, rollout={"strategy": "Canary"} | changes)


def prompt(message: str, **changes: Any) -> Case:
    """A PromptTemplate."""
    return Case("PromptTemplate", {key.replace("__", "."): value for key, value in changes.items()}, message)


def variable(message: str, **more: Any) -> Case:
    """A PromptTemplate with one variable of these properties."""
    properties = {"name": "question"} | {key.rstrip("_"): value for key, value in more.items()}
    return Case("PromptTemplate", {"variables": [properties]}, message)


def index(message: str, **changes: Any) -> Case:
    """A RAGIndex."""
    return Case("RAGIndex", {key.replace("__", "."): value for key, value in changes.items()}, message)


def source(message: str, **properties: Any) -> Case:
    """A RAGIndex with one source of these properties."""
    return Case("RAGIndex", {"sources": [{"name": "notes", **properties}]}, message)


LONG_NAME = "n" * 41
NAME_MESSAGE = "metadata.name must be a DNS label of at most 40 characters"
QUANTITY_MESSAGE = "must be a quantity such as 500m, 2 or 2Gi"
GPU_MESSAGE = 'must be a whole number up to 99 or a fraction such as "0.5"'
OBJECT_MESSAGE = "must be the name of an object: lower-case letters, digits, '-' and '.'"
RELATIVE_MESSAGE = "path is relative to the source's root and has no '..'"
TEXT = {"documents": [{"name": "a.md", "text": "A"}]}
REPOSITORY = "https://example.com/r.git"

ADAPTER = {"name": "support", "uri": "pvc://models/support"}
SITE = "https://example.com/"
ROWS = {"secretRef": {"name": "database"}, "query": "select id, text from pages"}
ONE_OF_MESSAGE = "set exactly one of replicas (a fixed number) and autoscaling"

REFUSED = [
    *(Case(kind, {}, NAME_MESSAGE, name="dots.in.it") for kind in SPECS),
    *(Case(kind, {}, NAME_MESSAGE, name=LONG_NAME) for kind in SPECS),
    model("spec.task: Required value", task=MISSING),
    model("spec.source: Required value", source=MISSING),
    model("spec.source.uri: Required value", source={}),
    model(
        'spec.task: Unsupported value: "chat": supported values: "generate", "embed", "rerank"', task="chat"
    ),
    model(
        "uri must start with hf://, s3://, gs://, az://, https://, oci://", source__uri="http://host/a.tar"
    ),
    model("an hf:// uri is hf://org/name or hf://org/name@revision", source__uri="hf://name"),
    *(
        model(f"an {scheme}:// uri is {scheme}://bucket/path/to/the/folder", source__uri=f"{scheme}://Bucket")
        for scheme in ("s3", "gs", "az")
    ),
    model("an https:// uri is https://host/path of an archive", source__uri="https://user:pw@host/a.tgz"),
    model("an oci:// uri is oci://registry/repository:tag", source__uri="oci://registry"),
    model("a pvc:// uri is pvc://claim or pvc://claim/path", source__uri="pvc://Models/x"),
    model("a file:// uri has three slashes and an absolute path", source__uri="file://models"),
    model("uri must not contain '..'; name the folder itself", source__uri="pvc://models/../x"),
    model("spec.source.uri: Too long: may not be more than 1024", source__uri="pvc://m/" + "x" * 1024),
    model("must be sha256: and 64 hex digits; `lateen digest FOLDER` prints it", source__digest="x" * 71),
    model("must be the name of a Secret: lower-case letters", source__secretRef__name="My_Secret"),
    model("spec.engine.type: Unsupported value", engine__type="tgi"),
    model(QUANTITY_MESSAGE, engine__kvCacheMemory="1GB"),
    model("spec.engine.dtype: Unsupported value", engine__dtype="int3"),
    model("spec.engine.maxModelLen in body should be greater than or equal to 16", engine__maxModelLen=8),
    model(QUANTITY_MESSAGE, resources__cpu="two"),
    model(QUANTITY_MESSAGE, resources__cpu=-1),
    model(QUANTITY_MESSAGE, resources__memory="1GB"),
    model("must be of type integer,string", resources__cpu=0.5),
    model(GPU_MESSAGE, resources__gpu="1.5"),
    model(GPU_MESSAGE, resources__gpu=100),
    model("nodeLabels: Too many", resources__nodeLabels={f"label{n}": "x" for n in range(17)}),
    model("engine.type: vllm is for task: generate", task="embed", engine__type="vllm"),
    model("adapters are for task: generate", task="embed", adapters=[ADAPTER]),
    model("spec.adapters: duplicate entries", adapters=[ADAPTER] * 2),
    model("spec.adapters: Too many", adapters=[ADAPTER | {"name": f"a{n}"} for n in range(33)]),
    model("uri must start with hf://", adapters=[ADAPTER | {"uri": "ftp://a/b"}]),
    model(ONE_OF_MESSAGE, replicas=MISSING),
    model(ONE_OF_MESSAGE, autoscaling={"maxReplicas": 2}),
    autoscaling("minReplicas must not exceed maxReplicas", minReplicas=3),
    autoscaling("spec.autoscaling.maxReplicas: Required value", maxReplicas=MISSING),
    autoscaling("spec.autoscaling.maxReplicas in body should be", maxReplicas=0),
    autoscaling("spec.autoscaling.targetOngoingRequests in body should be", targetOngoingRequests=0),
    autoscaling("must be a duration such as 30s, 5m or 1h30m", scaleToZeroDelay="never"),
    model("spec.routing.strategy: Unsupported value", routing__strategy="Random"),
    rollout("strategy: Canary needs steps, such as [{weight: 10, pause: 60s}]"),
    rollout("steps are only for strategy: Canary", strategy="Recreate", steps=[{"weight": 10}]),
    rollout("abort is only for strategy: Canary", strategy="Immediate", abort={}),
    rollout("every step needs a weight of its own", steps=[{"weight": 10}, {"weight": 10}]),
    rollout("weight in body should be less than or equal to 99", steps=[{"weight": 100}]),
    rollout("must be at least 1s", steps=[{"weight": 10, "pause": "0s"}]),
    rollout(
        'must be a number in quotes from "0" to "1", such as "0.02"',
        steps=[{"weight": 10}],
        abort={"maxErrorRatio": "2"},
    ),
    model("spec.revisionHistoryLimit in body should be", revisionHistoryLimit=0),
    model("spec.replicas in body should be greater than or equal to 0", replicas=-1),
    model("spec.replicas in body should be less than or equal to 256", replicas=257),
    model("spec.replicas: expected numeric", replicas="two"),
    model("spec.limits.maxOngoingRequests in body should be", limits__maxOngoingRequests=0),
    model("spec.limits.maxQueuedRequests in body should be", limits__maxQueuedRequests=0),
    model("must be a duration such as 30s, 5m or 1h30m", limits__requestTimeout="2 min"),
    model("must be at least 1s", limits__requestTimeout="0s"),
    model("spec.suspend: expected boolean", suspend="yes"),
    model("spec.replicsa: field not declared in schema", replicsa=2),
    prompt("spec.version: Required value", version=MISSING),
    prompt("must be letters, digits, '-', '.' or '_', such as 1.2", version="one two"),
    prompt("spec.version: expected string", version=1.2),
    prompt("spec.version: Too long: may not be more than 63", version="v" * 64),
    prompt('spec.syntax: Unsupported value: "mustache"', syntax="mustache"),
    prompt("spec.messages: Required value", messages=MISSING),
    prompt("spec.messages in body should have at least 1 items", messages=[]),
    prompt("spec.messages: Too many", messages=[{"role": "user", "content": "a"}] * 33),
    prompt('spec.messages[0].role: Unsupported value: "tool"', messages__0__role="tool"),
    prompt("spec.messages[0].content in body should be at least 1 chars long", messages__0__content=""),
    prompt("spec.messages[0].content: Too long", messages__0__content="x" * 16385),
    prompt("spec.variables: duplicate entries", variables=[{"name": "question"}] * 2),
    prompt("spec.variables: Too many", variables=[{"name": f"v{i}"} for i in range(65)]),
    variable("must start with a lower-case letter and hold lower-case letters", name="Question"),
    prompt("an item has exactly one of content (with role), examples, include", messages=[{}]),
    prompt("role and content belong together", messages=[{"content": "a"}]),
    prompt("include.version: Required value", messages=[{"include": {"name": "a"}}]),
    variable("spec.variables[0].type: Unsupported value", type="set"),
    variable("spec.variables[0].from: Unsupported value", from_="weather"),
    variable("clock is only for from: clock", clock={}),
    variable("retrieval is only for from: retrieval", retrieval={"indexRefs": [{"name": "a"}]}),
    variable(
        "indexRefs in body should have at least 1 items", from_="retrieval", retrieval={"indexRefs": []}
    ),
    variable("identity is only for from: identity", identity={}),
    variable("metadata.key belongs to from: metadata", from_="metadata"),
    variable("type: enum needs a rule with oneOf", type="enum"),
    variable("a rule has exactly one of", rules=[{"minLength": 1, "maxLength": 2}]),
    variable("a cel rule needs a message for callers", rules=[{"cel": "true"}]),
    variable("pattern is for type: string", type="integer", rules=[{"pattern": "a"}]),
    variable("oneOf is for type: enum or string", type="integer", rules=[{"oneOf": ["1"]}]),
    prompt("priority is only for overflow: Truncate", contextWindow={"priority": ["question"]}),
    prompt("overflow: Truncate needs a priority list", contextWindow={"overflow": "Truncate"}),
    prompt("schema is only for format: json", output={"schema": {}}),
    variable("a variable from: constant needs a value", from_="constant"),
    variable("value is only for from: constant; use default", value="a"),
    variable("default is only for from: request, metadata and identity", from_="retrieval", default="a"),
    variable("rules are only for from: request", from_="retrieval", rules=[{"maxLength": 3}]),
    variable("an injected variable has type: string", from_="retrieval", type="integer"),
    variable("minLength and maxLength are for type: string", type="integer", rules=[{"maxLength": 3}]),
    variable("minimum and maximum are for type: integer or number", rules=[{"minimum": "3"}]),
    variable('must be a number in quotes, such as "-5" or "0.5"', type="number", rules=[{"minimum": "few"}]),
    variable("oneOf in body should have at least 1 items", rules=[{"oneOf": []}]),
    variable("duplicate entries", rules=[{"oneOf": ["a", "a"]}]),
    variable("default: Too long", default="x" * 16385),
    variable("description: Too long: may not be more than 512", description="x" * 513),
    prompt(
        "at most one variable can be from: retrieval",
        variables=[{"name": "a", "from": "retrieval"}, {"name": "b", "from": "retrieval"}],
    ),
    prompt("must be Dedent, Strip, CollapseWhitespace", postProcessing=["Upper"]),
    prompt('must be a number in quotes from "0" to "2", such as "0.7"', defaults__temperature="3"),
    prompt("spec.defaults.temperature: expected string", defaults__temperature=0.7),
    prompt('must be a number in quotes above "0" and up to "1", such as "0.9"', defaults__topP="0"),
    prompt("spec.defaults.maxOutputTokens in body should be", defaults__maxOutputTokens=0),
    prompt("spec.defaults.stop: Too many", defaults__stop=list("abcde")),
    prompt("spec.defaults.stop[0] in body should be at least 1 chars long", defaults__stop=[""]),
    index("spec.sources: Required value", sources=MISSING),
    index("spec.sources in body should have at least 1 items", sources=[]),
    index("spec.sources: Too many", sources=[{"name": f"s{i}", "inline": TEXT} for i in range(33)]),
    index("spec.sources: duplicate entries", sources=[{"name": "a", "inline": TEXT}] * 2),
    index(
        "an index has at most one source of the type push",
        sources=[{"name": "a", "push": {}}, {"name": "b", "push": {}}],
    ),
    index("spec.embedding: Required value", embedding=MISSING),
    index("must be the name of a resource: at most 40 lower-case", embedding__modelRef__name="Mini.LM"),
    source("a source has exactly one of inline, configMap, pvc, git, http"),
    source(
        "a source has exactly one of inline, configMap, pvc, git, http", inline=TEXT, configMap={"name": "a"}
    ),
    source(
        "must be at most 63 lower-case letters, digits and '-', such as handbook", name="A b", inline=TEXT
    ),
    source("inline.documents in body should have at least 1 items", inline={"documents": []}),
    source("duplicate entries", inline={"documents": TEXT["documents"] * 2}),
    source("must be a file name such as leave.md", inline={"documents": [{"name": "../a", "text": "A"}]}),
    source("text in body should be at least 1 chars long", inline={"documents": [{"name": "a", "text": ""}]}),
    source("text: Too long", inline={"documents": [{"name": "a", "text": "x" * 65537}]}),
    source(OBJECT_MESSAGE, configMap={"name": "My_Notes"}),
    source(OBJECT_MESSAGE, pvc={"claimName": "Documents"}),
    source(RELATIVE_MESSAGE, pvc={"claimName": "documents", "path": "/etc"}),
    source(RELATIVE_MESSAGE, pvc={"claimName": "documents", "path": "a/../b"}),
    source("path: Too long: may not be more than 512", pvc={"claimName": "documents", "path": "x" * 513}),
    source("include in body should have at least 1 items", pvc={"claimName": "documents", "include": []}),
    source("duplicate entries", pvc={"claimName": "documents", "exclude": ["a", "a"]}),
    source("url must start with https:// (or file:/// below a root", git={"url": "http://example.com/r"}),
    source("must be a branch, a tag or a commit", git={"url": REPOSITORY, "ref": "-main"}),
    source(RELATIVE_MESSAGE, git={"url": REPOSITORY, "path": "../.."}),
    source("git.include[0] in body should be at least 1 chars", git={"url": REPOSITORY, "include": [""]}),
    source("http needs urls or sitemap", http={}),
    source("http.urls[0] in body should match", http={"urls": ["https://user:password@example.com/"]}),
    source("must be https://host/path", http={"sitemap": "ftp://example.com/sitemap.xml"}),
    source("crawl.maxDepth in body should be less", http={"urls": [SITE], "crawl": {"maxDepth": 11}}),
    source("duplicate entries", http={"urls": [SITE, SITE]}),
    source("must be s3://bucket/prefix", objectStore={"uri": "https://bucket/prefix"}),
    source("sql.query in body should match", sql={**ROWS, "query": "DELETE FROM pages"}),
    source("sql.query in body should match", sql={**ROWS, "query": "SELECT 1; SELECT 2"}),
    source("must be the name of a column", sql={**ROWS, "idColumn": "id, text"}),
    source("sql.secretRef: Required value", sql={"query": "SELECT 1"}),
    index("spec.sync.deletePolicy: Unsupported value", sync__deletePolicy="Never"),
    index(QUANTITY_MESSAGE, parsing__maxDocumentBytes="2 MB"),
    index("spec.chunking.strategy: Unsupported value", chunking__strategy="Paragraph"),
    index(
        'must be a number in quotes from "0.5" to "1", such as "0.9"', pipeline__nearDuplicateSimilarity="0.3"
    ),
    index("spec.chunking.size in body should be greater than or equal to 16", chunking__size=8),
    index("overlap must be smaller than size", chunking={"size": 100, "overlap": 100}),
    index("overlap must be smaller than size", chunking={"size": 32}),
    index("spec.store.distance: Unsupported value", store__distance="euclid"),
    index("spec.retrieval.limit in body should be less than or equal to 50", retrieval__limit=51),
    index("spec.retrieval.mode: Unsupported value", retrieval__mode="Best"),
    index('must be a number in quotes from "0" to "1", such as "0.6"', retrieval__alpha="1.5"),
    index('must be a number in quotes from "0" to "1", such as "0.6"', retrieval__minScore="-1"),
    index(
        "spec.retrieval.rerank.candidates in body should be less than or equal to 200",
        retrieval__rerank={"modelRef": {"name": "r"}, "candidates": 201},
    ),
    index("spec.retrieval.rerank.modelRef: Required value", retrieval__rerank={}),
    index('must be a number in quotes from "0" to "1", such as "0.6"', quality__minRecall="1.5"),
    index("spec.quality.samples in body should be greater than or equal to 1", quality__samples=0),
    index("spec.revisionHistoryLimit in body should be less than or equal to 10", revisionHistoryLimit=11),
    index("spec.deletionPolicy: Unsupported value", deletionPolicy="Keep"),
    index("compression: pq needs vectorIndex: hnsw", store={"compression": "pq", "vectorIndex": "flat"}),
    index("spec.store.replicas in body should be less than or equal to 7", store__replicas=8),
    index("must have five fields: minute, hour, day of month", schedule__cron="hourly"),
    index(
        "must be an IANA time zone such as Europe/Rome", schedule={"cron": "0 * * * *", "timeZone": "Rome!"}
    ),
]

ACCEPTED = [
    *(Case(kind, {}) for kind in SPECS),
    *(Case(kind, {}, name="n" * 40) for kind in SPECS),
    model("", resources={"cpu": 2, "memory": "1.5Gi", "gpu": "0.25"}),
    model("", resources={"cpu": "500m", "memory": 1073741824, "gpu": 2}),
    model("", source__uri="hf://org/name@refs/pr/1"),
    model("", source__uri="file:///srv/models/chat"),
    *(
        model("", source__uri=uri)
        for uri in (
            "s3://bucket/models/chat",
            "gs://bucket/a",
            "az://container/a",
            "https://host:8443/chat.tar.gz",
            "oci://registry:5000/org/model:1.0",
            "oci://registry/org/model@sha256:" + "0" * 64,
        )
    ),
    model("", source__digest="sha256:" + "0" * 64, source__secretRef={"name": "hub.token"}),
    model("", resources={"acceleratorType": "H100", "nodeLabels": {"ray.io/market-type": "spot"}}),
    model("", adapters=[ADAPTER, ADAPTER | {"name": "legal"}]),
    autoscaling("", minReplicas=0, scaleToZeroDelay="5m"),
    autoscaling("", minReplicas=2),
    rollout("", strategy="Recreate"),
    rollout("", steps=[{"weight": 10}, {"weight": 50, "pause": "5m"}], abort={"maxLatencyP95": "2s"}),
    model("", replicas=0, limits={"requestTimeout": "1h30m", "maxQueuedRequests": 1}),
    prompt("", defaults={"temperature": "0", "topP": "1", "stop": ["\n", "End"]}),
    variable("", type="integer", rules=[{"minimum": "-5"}, {"maximum": "10000"}], default="3"),
    variable("", from_="constant", value=""),
    variable("", required=False, rules=[{"oneOf": ["a", "b"]}, {"minLength": 1}, {"maxLength": 1}]),
    index("", sources=[{"name": "a", "inline": TEXT}, {"name": "b", "configMap": {"name": "c.d"}}]),
    source("", pvc={"claimName": "documents", "path": "policies/2026"}),
    source("", git={"url": "file:///srv/repositories/r.git", "ref": "feature/x"}),
    source("", git={"url": REPOSITORY, "secretRef": {"name": "login"}}),
    source("", http={"urls": [SITE, "http://127.0.0.1:8080", "https://[2606:4700::1]/a?b=c"], "crawl": {}}),
    source("", http={"sitemap": f"{SITE}sitemap.xml", "maxPages": 10000, "requestsPerSecond": 100}),
    source("", objectStore={"uri": "gs://bucket"}),
    source("", objectStore={"uri": "s3://bucket/a/b", "include": ["**"], "secretRef": {"name": "s3"}}),
    source("", sql={**ROWS, "query": "WITH a AS (SELECT 1)\nSELECT * FROM a", "updatedColumn": "updated"}),
    source("", push={}),
    index("", sync={"deletePolicy": "Keep"}),
    index("", schedule={"cron": "*/5 8-18 * * 1-5", "timeZone": "America/Argentina/Buenos_Aires"}),
    index("", retrieval={"alpha": "1.0", "mode": "Vector", "limit": 50}),
    index("", store={"compression": "pq"}, retrieval={"rerank": {"modelRef": {"name": "r"}}}),
]
