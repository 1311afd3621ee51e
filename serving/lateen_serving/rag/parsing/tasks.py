# SPDX-License-Identifier: Apache-2.0
"""Reads files in Ray tasks: the `isolation.Runner` of index builds. Used by `build.py`.

A task needs no CPU of Ray's books, since on a small cluster the replicas have booked all of them; how many run at
once is bounded by who calls.
"""

import asyncio
import logging
from collections.abc import Sequence

import ray
import ray.exceptions

from lateen_api.rag_index import Pipeline
from lateen_serving.rag.parsing import guarded, language, preparing
from lateen_serving.rag.parsing.guarded import Bounds
from lateen_serving.rag.parsing.isolation import Died
from lateen_serving.rag.parsing.parsed import Outcome, Raw


class RayRunner:
    """Reads each batch in a task that is never retried."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._task = ray.remote(num_cpus=0, max_retries=0)(_parse)

    def warm_up(self) -> None:
        """Start a process in the background, so that the first documents don't wait for it."""
        ray.remote(num_cpus=0, max_retries=0)(language.load).remote()

    async def run(self, batch: Sequence[Raw], bounds: Bounds, seconds: float) -> list[Outcome]:
        """What became of the first files of `batch`; Died if there is no answer within `seconds`."""
        answer = self._task.remote(list(batch), bounds, self._pipeline)
        try:
            async with asyncio.timeout(seconds):
                outcomes: list[Outcome] = await answer
        except TimeoutError as error:
            raise Died("it did not answer", late=True) from error
        except ray.exceptions.RayError as error:
            raise Died(type(error).__name__) from error
        else:
            return outcomes
        finally:
            ray.cancel(answer, force=True)  # nothing if it has ended


def _parse(batch: list[Raw], bounds: Bounds, pipeline: Pipeline) -> list[Outcome]:
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what is wrong with a file is raised
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    return guarded.parse(batch, bounds, preparing.Preparation(pipeline))
