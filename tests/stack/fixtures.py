# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that need the real stack; loaded by `tests/conftest.py`.

The stack starts once per run, when the first test asks for it. Tests live in namespaces of their own.
"""

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from lateen_cli.state import StateDir
from stack import manifests
from stack.cluster import KINDS, Cluster, Completed
from stack.local import LocalStack, forget
from stack.parts import Operator, RayServe, Weaviate, Writes, count_writes
from stack.waiting import wait_for

STACK = pytest.StashKey[LocalStack]()
LEFT_TIMEOUT = 150


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[LocalStack]:
    """A running stack: `lateen up` once per run, `lateen down` at the end, nothing left of it afterwards."""
    running = os.environ.get("LATEEN_TEST_STACK")
    if running:
        local = LocalStack(StateDir.at(Path(running)))
        local.fill_volumes()
        request.config.stash[STACK] = local
        yield local
        return
    with tempfile.TemporaryDirectory(prefix="lateen-test-") as scratch:
        root = Path(os.environ.get("LATEEN_TEST_STATE") or Path(scratch) / "s")
        local = LocalStack(StateDir.at(root))
        request.config.stash[STACK] = local
        try:
            local.fill_volumes()
            local.start()
            yield local
        finally:
            if local.state.run() is not None:
                local.stop()
            left = [f"{process.pid} {process.name()}" for process in local.processes()]
            forget(root)
        assert not left, f"lateen down left processes behind: {left}"


@pytest.fixture(scope="session")
def cluster(stack: LocalStack) -> Cluster:
    """Kubernetes, with helpers that expect success."""
    return stack.cluster


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Callable[..., Completed]:
    """`kubectl(*arguments, stdin=None)`; never raises for its exit status."""
    return cluster.kubectl


@pytest.fixture(scope="session")
def ray(stack: LocalStack) -> Iterator[RayServe]:
    """Ray's Serve REST API."""
    serve = RayServe.of(stack)
    yield serve
    serve.http.close()


@pytest.fixture(scope="session")
def weaviate(stack: LocalStack) -> Iterator[Weaviate]:
    """Weaviate's REST API."""
    store = Weaviate.of(stack)
    yield store
    store.http.close()


@pytest.fixture(scope="session")
def operator(stack: LocalStack) -> Operator:
    """The operator's process."""
    return Operator(stack)


@pytest.fixture(scope="session")
def writes(operator: Operator, cluster: Cluster) -> Callable[[], Writes]:
    """How many writes the API server has seen; a function to call."""
    return lambda: count_writes(operator, cluster)


@pytest.fixture(scope="session")
def sdk(stack: LocalStack) -> Iterator[openai.OpenAI]:
    """The official SDK, blocking; without retries, so that a lost request shows."""
    # The environment's proxies are for the outside; the stack is on loopback.
    http = openai.DefaultHttpxClient(trust_env=False, timeout=120)
    with openai.OpenAI(
        base_url=f"{stack.gateway_url}/v1", api_key=stack.api_key, max_retries=0, http_client=http
    ) as caller:
        yield caller


@pytest.fixture
async def client(stack: LocalStack) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official SDK, asynchronous; without retries, so that a lost request shows."""
    http = openai.DefaultAsyncHttpxClient(trust_env=False, timeout=120)
    async with openai.AsyncOpenAI(
        base_url=f"{stack.gateway_url}/v1", api_key=stack.api_key, max_retries=0, http_client=http
    ) as caller:
        yield caller


@pytest.fixture(scope="session")
def used_namespaces(cluster: Cluster, ray: RayServe, weaviate: Weaviate) -> Iterator[list[str]]:
    """Namespaces that tests made; at the end of the run nothing of them may be left anywhere."""
    made: list[str] = []
    yield made
    wait_for(lambda: not left_of(made, cluster, ray, weaviate), LEFT_TIMEOUT,
             lambda: f"tests left behind: {left_of(made, cluster, ray, weaviate)}")  # fmt: skip


def left_of(made: list[str], cluster: Cluster, ray: RayServe, weaviate: Weaviate) -> list[str]:
    """What there still is of some namespaces, anywhere."""
    present = cluster.run("get", "namespaces", "-o", "name").split()
    words = tuple(f"Lateen_{name.title().replace('-', '')}_" for name in made)
    stored = weaviate.collections() | set(weaviate.aliases())
    return [
        *(name for name in made if f"namespace/{name}" in present),
        *(name for name in ray.applications() if name.partition("_")[0] in made),
        *(name for name in stored if name.startswith(words)),
    ]


@contextmanager
def fresh_namespace(cluster: Cluster, used: list[str]) -> Generator[str]:
    """A namespace that is deleted afterwards; what was in it may take until the end of the run to be gone."""
    name = f"t{secrets.token_hex(4)}"
    cluster.apply(manifests.namespace_manifest(name))
    used.append(name)
    try:
        yield name
    finally:
        cluster.run("delete", KINDS, "--all", "-n", name, "--wait=false")
        cluster.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace(cluster: Cluster, used_namespaces: list[str]) -> Iterator[str]:
    """A namespace for one test."""
    with fresh_namespace(cluster, used_namespaces) as name:
        yield name


@pytest.fixture(scope="module")
def shared_namespace(cluster: Cluster, used_namespaces: list[str]) -> Iterator[str]:
    """A namespace for the tests of one module, for models that take long to start."""
    with fresh_namespace(cluster, used_namespaces) as name:
        yield name


@pytest.fixture(scope="module")
def embedder(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny embedding model, Ready in `shared_namespace`; its name."""
    cluster.apply(manifests.model(shared_namespace, "embedder", "embed", "tiny-embed"))
    cluster.wait_ready("modeldeployments.lateen.dev", shared_namespace, "embedder", timeout=180)
    return "embedder"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the stack's logs with a failure."""
    report = yield
    local = item.config.stash.get(STACK, None)
    if report.failed and local is not None:
        for name, text in local.log_tails().items():
            report.sections.append((f"end of {name}", text))
    return report
