# SPDX-License-Identifier: Apache-2.0
"""Memory of index builds of 10,000 and of 100,000 documents. Called by `__main__.py`.

The documents are tiny and all but one repeat another, so that hardly anything is embedded: what is measured is what a build holds of
each document.
"""

import threading
import time
from pathlib import Path
from typing import Any

import psutil

from bench import figures
from stack import manifests
from stack.local import LocalStack

SIZES = (10_000, 100_000)
PER_SOURCE = 10_000
"""Documents; a source may have twice as many."""

NAMESPACE, CLAIM = "streamed", "streamed-documents"
BUILD_SECONDS = 400
INTERVAL = 0.2


def measure(stack: LocalStack) -> dict[str, Any]:
    """MiB that the build's process has at most, by number of documents; `stack` has just been started."""
    stack.cluster.apply(manifests.namespace_manifest(NAMESPACE))
    stack.cluster.apply(manifests.model(NAMESPACE, "embedder", "embed", "tiny-embed"))
    stack.cluster.wait_ready(figures.MODEL, NAMESPACE, "embedder", timeout=180)
    _write(stack.volume(CLAIM), max(SIZES))
    sizes = {str(size): _build(stack, size) for size in SIZES}
    few, many = (sizes[str(size)] for size in SIZES)
    grown = (many["mib"] - few["mib"]) * 2**20 / (SIZES[1] - SIZES[0])
    return {"sizes": sizes, "bytes_per_document": grown}


def _write(folder: Path, documents: int) -> None:
    for number in range(documents):
        part = folder / f"part-{number // PER_SOURCE:02}"
        part.mkdir(exist_ok=True)
        (part / f"note-{number:06}.txt").write_text("the zebra is purple\n")


def _build(stack: LocalStack, documents: int) -> dict[str, Any]:
    sources = {
        f"part-{number:02}": {"pvc": {"claimName": CLAIM, "path": f"part-{number:02}"}}
        for number in range(documents // PER_SOURCE)
    }
    name = f"of-{documents}"
    started = time.monotonic()
    with _Peak(stack) as peak:
        stack.cluster.apply(manifests.index(NAMESPACE, name, "embedder", sources))
        status = stack.cluster.wait_ready(figures.INDEX, NAMESPACE, name, timeout=BUILD_SECONDS)["status"]
    counted = status["documents"] + status["pipeline"]["duplicates"]
    assert counted == documents, f"{counted} of {documents} documents"
    return {"documents": documents, "mib": peak.bytes / 2**20, "build_s": time.monotonic() - started}


class _Peak:
    """The most memory of a build's process while the context lasts."""

    def __init__(self, stack: LocalStack) -> None:
        self.bytes = 0
        self._stack = stack
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "_Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        build: psutil.Process | None = None
        while not self._over.wait(INTERVAL):
            try:
                build = build or next(filter(_is_build, self._stack.processes()), None)
                self.bytes = max(self.bytes, build.memory_info().rss if build is not None else 0)
            except psutil.NoSuchProcess:
                build = None


def _is_build(process: psutil.Process) -> bool:
    try:
        line = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return line[1:3] == ["-m", "lateen_serving.rag.build"]
