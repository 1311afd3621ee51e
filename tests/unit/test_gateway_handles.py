# SPDX-License-Identifier: Apache-2.0
"""How Ray's ways to fail become the service's errors."""

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, RayServeException

from lateen_serving.errors import ContextTooLong, ModelError, Overloaded, ServiceError, Unavailable
from lateen_serving.gateway.handles import RayModels, _cancel


def task_error(cause: Exception) -> Exception:
    """What a caller of a Ray task sees when it raised `cause`."""
    kind: Any = RayTaskError
    error: Exception = kind("generate", "traceback", cause).as_instanceof_cause()
    return error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ActorDiedError(), Unavailable),
        (ActorUnavailableError("gone", None), Unavailable),
        (WorkerCrashedError(), Unavailable),
        (RayServeException("Application 'x' does not exist."), Unavailable),
        (BackPressureError(num_queued_requests=3, max_queued_requests=3), Overloaded),
        (task_error(BackPressureError(num_queued_requests=3, max_queued_requests=3)), Overloaded),
        (task_error(ContextTooLong("long", param="messages")), ContextTooLong),
        (ContextTooLong("long", param="messages"), ContextTooLong),
        (task_error(ValueError("private text")), ModelError),
        (ValueError("private text"), ModelError),
    ],
)
def test_translation(raised: Exception, expected: type[ServiceError]) -> None:
    """Every failure of a call is the ServiceError that says who has to act, without private details."""
    models = RayModels()
    with pytest.raises(ServiceError) as caught, models._translated("app"):
        raise raised
    assert type(caught.value) is expected
    assert "private" not in str(caught.value.to_dict())
    if expected is ContextTooLong:
        assert caught.value.param == "messages"


async def test_cancellation_by_ray_is_a_lost_replica() -> None:
    """A CancelledError nobody here asked for means that the replica dropped the call: worth another try."""
    models = RayModels()
    with pytest.raises(Unavailable), models._translated("app"):
        raise asyncio.CancelledError


async def test_own_cancellation_stays_one() -> None:
    """When this request is cancelled, the cancellation goes through unchanged."""
    models = RayModels()
    entered = asyncio.Event()

    async def call() -> None:
        with models._translated("app"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_failure_forgets_the_handle() -> None:
    """After a failure of the infrastructure the application is looked up again."""
    models = RayModels()
    models._handles["app"] = object()  # type: ignore[assignment] # only its presence matters
    with pytest.raises(Unavailable), models._translated("app"):
        raise ActorDiedError
    assert "app" not in models._handles


class Call:
    """A Ray Serve response whose replica was found in the moment of its cancellation."""

    def __init__(self) -> None:
        self._replica_result_future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.cancelled = False

    def cancel(self) -> None:
        """Ray Serve's own cancellation: it only knows results that were awaited."""
        self._replica_result_future.cancel()


class Result:
    """The call inside the replica."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Stop it."""
        self.cancelled = True


async def test_call_assigned_while_cancelled_is_stopped_too() -> None:
    """A result nobody has awaited is cancelled as well."""
    response: Any = Call()
    result = Result()
    response._replica_result_future.set_result(result)
    _cancel(response)
    assert result.cancelled


async def test_waiting_call_is_cancelled() -> None:
    """A call that waits for a replica stops waiting."""
    response: Any = Call()
    _cancel(response)
    assert response._replica_result_future.cancelled()
