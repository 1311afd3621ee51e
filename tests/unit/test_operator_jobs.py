# SPDX-License-Identifier: Apache-2.0
"""What the operator learns of Ray's jobs."""

import json
from typing import Any

from lateen_operator.ray import LOG_TRIES, RayServe
from lateen_operator.seams import RayUnavailable
from lateen_operator.settings import OperatorSettings

REASON = "lateen-failure SourceUnauthorized: the server wants other credentials"


class Jobs(RayServe):
    """Ray with one failed job, whose log can't be had the first so many times."""

    def __init__(self, away: int) -> None:
        super().__init__(OperatorSettings())
        self.away, self.asked = away, 0

    async def _ask(self, method: str, path: str, **_: Any) -> bytes:
        if not path.endswith("/logs"):
            failed = {"submission_id": "lateen-a-0", "status": "FAILED", "message": "exit code 1"}
            return json.dumps([failed]).encode()
        self.asked += 1
        if self.asked <= self.away:
            raise RayUnavailable("Ray does not answer")
        return json.dumps({"logs": f"starting\n{REASON}\n"}).encode()

    async def message(self) -> str:
        """What one look finds."""
        return (await self.jobs())["lateen-a-0"].message


async def test_the_reason_of_a_failed_job_is_read_once() -> None:
    """From its log, where the build has written it; Ray's own words say less."""
    ray = Jobs(away=0)
    assert [await ray.message() for _ in range(3)] == [REASON] * 3
    assert ray.asked == 1


async def test_a_log_that_can_not_be_had_now_is_asked_for_again() -> None:
    """A moment in which Ray is busy does not cost the reason; a log that went with its node is given up in the end."""
    ray = Jobs(away=1)
    assert [await ray.message() for _ in range(3)] == ["exit code 1", REASON, REASON]
    ray = Jobs(away=100)
    assert [await ray.message() for _ in range(LOG_TRIES + 5)] == ["exit code 1"] * (LOG_TRIES + 5)
    assert ray.asked == LOG_TRIES
