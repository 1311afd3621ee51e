# SPDX-License-Identifier: Apache-2.0
"""How many requests the gateway works on, and how many of them may wait for a model, so that no model's requests fill the
gateway. Held by `context.Service`; told of requests by `accounting.py` and `ingress.py`, of their waits by `calling.py`.

A request has a place from before its body is read until its end; those beyond the gateway's places are refused at once.
Requests that wait for a model that is starting count like any others. They share by a dynamic threshold, as queues share
the memory of a network switch: a model's requests may wait while they are fewer than the free places. So the first model
without replicas takes at most half, each further one half of the rest, and something is always left for models that
answer.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lateen_api.serve_config import GATEWAY_MAX_ONGOING_REQUESTS
from lateen_serving.errors import Overloaded

_KEPT = 8
"""One in so many places is kept for models of which no request waits: one of theirs may, however many of others do."""

_SOON_SECONDS = 1


class _Request:
    """Stands for one request; all its calls, also those of tasks that it starts, count as one."""

    is_over = False


_current: ContextVar[_Request] = ContextVar("current")


class Room:
    """Knows the requests that are inside and, by model, which of them wait. One per gateway replica.

    A request is inside from its first call of a model until its end. So neither those that are only arriving nor those
    that are turned away take anything from the others.
    """

    def __init__(self, capacity: int = GATEWAY_MAX_ONGOING_REQUESTS) -> None:
        self._capacity = capacity
        self._shared = capacity - capacity // _KEPT
        self._admitted: set[_Request] = set()
        self._inside: set[_Request] = set()
        self._waiting: dict[str, Counter[_Request]] = {}

    @property
    def inside(self) -> int:
        """Requests that are inside."""
        return len(self._inside)

    def waiting(self, model: str) -> int:
        """Requests that wait for a replica of `model`."""
        return len(self._waiting.get(model, ()))

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around a request."""
        request = _Request()
        token = _current.set(request)
        try:
            yield
        finally:
            _current.reset(token)
            request.is_over = True
            self._inside.discard(request)
            self._admitted.discard(request)

    def admit(self) -> None:
        """Give the present request one of the gateway's places, until its end; raises Overloaded where all are taken."""
        if len(self._admitted) >= self._capacity:
            error = Overloaded("The service has too many requests under way. Try again in a moment.")
            error.retry_after = _SOON_SECONDS
            raise error
        self._admitted.add(_current.get())

    @contextmanager
    def place(self, model: str, most: int) -> Iterator["Place"]:
        """A call's place among those that wait for `model`, of which there may be `most`.

        Raises Overloaded where too many wait already.
        """
        request = _current.get(None)
        if request is None:
            with self.request(), self.place(model, most) as alone:
                yield alone
            return
        self._let_in(model, request, most)
        place = Place(self._waiting, model, request)
        try:
            yield place
        finally:
            place.leave()

    def _let_in(self, model: str, request: _Request, most: int) -> None:
        free = self._shared - len(self._inside - {request})
        is_known = request in self._waiting.get(model, ())
        if not is_known and self.waiting(model) >= min(most, max(free, 1)):
            raise Overloaded("Too many requests wait for the model. Try again in a moment.")
        if not request.is_over:  # nothing would take a call that outlives its request out again
            self._inside.add(request)


class Place:
    """A place that is taken. Taking it twice takes it once, and so does leaving it."""

    def __init__(self, waiting: dict[str, Counter[_Request]], model: str, request: _Request) -> None:
        self._waiting = waiting
        self._model = model
        self._request = request
        self._is_taken = False
        self.take()

    def take(self) -> None:
        """Wait (again), however many do: a request that was let in is not turned away later."""
        if not self._is_taken:
            self._is_taken = True
            self._waiting.setdefault(self._model, Counter())[self._request] += 1

    def leave(self) -> None:
        """Wait no longer: a replica has begun, or the call is over."""
        if not self._is_taken:
            return
        self._is_taken = False
        calls = self._waiting[self._model]
        calls[self._request] -= 1
        if not calls[self._request]:
            del calls[self._request]
        if not calls:
            del self._waiting[self._model]
