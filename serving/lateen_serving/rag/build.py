# SPDX-License-Identifier: Apache-2.0
"""The index build job: `python -m lateen_serving.rag.build build.json`, submitted to Ray by the operator.

Exit code 0: the collection is in the state of its sources, apart from failures listed in the report. Any other:
the synchronization as a whole failed, and one of the lines printed is `lateen-failure Reason: message`. It may be
killed at any moment and run again.

The whole of it is one asyncio driver. Files are parsed in Ray tasks, which they may kill; the embedder's replicas do the
heavy work, next to the queries they answer: `pacing.py` lets those go first.
"""

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import pydantic
import ray
import structlog

from lateen_api.index_build import BuildReport, BuildRequest
from lateen_api.quantities import quantity
from lateen_api.serve_config import REPLICA_FAILURE
from lateen_serving.rag.cursor_store import WeaviateCursors
from lateen_serving.rag.embedder import ServeEmbedder
from lateen_serving.rag.pacing import Paced
from lateen_serving.rag.parsing.isolation import Isolated
from lateen_serving.rag.parsing.tasks import RayRunner
from lateen_serving.rag.protocol import BuildFailure
from lateen_serving.rag.push import WeaviatePushed
from lateen_serving.rag.sources import Surroundings
from lateen_serving.rag.store import Connection, WeaviateStore
from lateen_serving.rag.sync import Synchronization
from lateen_serving.rag.vectors import WeaviateVectors
from lateen_serving.settings import ServingSettings


def main(arguments: list[str]) -> int:
    """Run the job described by the file `arguments[0]`; the exit code."""
    _log_json()
    try:
        request = BuildRequest.model_validate_json(Path(arguments[0]).read_bytes())
        structlog.contextvars.bind_contextvars(index=request.id, collection=request.collection)
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
        report = asyncio.run(_build(request, ServingSettings()))
    except BuildFailure as failure:
        return _fail(failure.reason, str(failure))
    except (pydantic.ValidationError, OSError, IndexError) as error:
        return _fail("BuildFailed", f"the build can't start: {error}")
    counts = report.model_dump(include={"documents", "chunks", "tokens", "embedded", "removed", "failed"})
    structlog.get_logger().info("synchronized", **counts)
    return 0


async def _build(request: BuildRequest, settings: ServingSettings) -> BuildReport:
    connection = Connection(settings)
    here = await asyncio.to_thread(Path.cwd)
    try:
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=here) as scratch:
            around = Surroundings(
                settings,
                here,
                Path(scratch),
                int(quantity(request.parsing.max_document_bytes)),
                request.namespace,
                pushed=_pushed(request, connection),
            )
            cursors = WeaviateCursors(connection, request.collection)
            store = WeaviateStore(connection, request.collection, request.store)
            embedder = Paced(ServeEmbedder(request.embedder_application))
            runner = RayRunner(request.pipeline)
            runner.warm_up()
            vectors = WeaviateVectors(connection, request.collection)
            run = Synchronization(
                request, store, embedder, Isolated(runner), around, remembered=cursors, vectors=vectors
            )
            return await run.run()
    finally:
        await connection.aclose()


def _pushed(request: BuildRequest, connection: Connection) -> WeaviatePushed | None:
    if request.pushed is None:
        return None
    return WeaviatePushed(connection, request.pushed, request.store.replicas)


def _fail(reason: str, message: str) -> int:
    line = " ".join(message.split())[:1000]
    print(f"{REPLICA_FAILURE} {reason}: {line}", flush=True)  # noqa: T201 - the operator looks for this line
    return 1


def _log_json() -> None:
    # The client logs whole objects when one is refused, and documents are not for logs.
    logging.getLogger("weaviate").setLevel(logging.CRITICAL)
    # What fails in a call is raised; the rest is about loops that end with the job.
    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
