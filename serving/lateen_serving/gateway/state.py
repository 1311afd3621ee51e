# SPDX-License-Identifier: Apache-2.0
"""What the gateway knows: the current catalog, indexed by id. Replaced as a whole by `app.py` when the operator
sends another one; a request reads it once at its start, so that a switch never affects a request in flight.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import structlog
from pydantic import ValidationError

from lateen_api import packing
from lateen_api.catalog import ApiKey, Catalog, Index, Model, Prompt
from lateen_api.rendering import CompiledPrompt
from lateen_api.scaling import RoutingStrategy
from lateen_serving.gateway.templates import Key, Templates
from lateen_serving.gateway.traffic import Ledger, PromptUses

_UNTOLD: RoutingStrategy = "LeastLoaded"
"""Of an application that only an index still uses: its model has moved on."""


@dataclass(frozen=True)
class Snapshot:
    """One catalog, ready for look-ups."""

    revision: str
    """`Catalog.revision`; empty before the first catalog."""

    keys: tuple[ApiKey, ...]
    models: Mapping[str, Model]
    prompts: Mapping[str, Prompt]
    indexes: Mapping[str, Index]
    applications: Mapping[str, int | None] = field(default_factory=dict)
    """Every application that requests may go to, with the time from which its traffic is judged (Unix time, seconds;
    None: it isn't)."""

    templates: Templates = field(default_factory=Templates)
    """The prompts, parsed."""

    @classmethod
    def of(cls, catalog: Catalog, templates: Templates) -> Self:
        """A catalog's content by id."""
        return cls(
            revision=catalog.revision,
            keys=tuple(catalog.keys),
            models={model.id: model for model in catalog.models},
            prompts={prompt.id: prompt for prompt in catalog.prompts},
            indexes={index.id: index for index in catalog.indexes},
            applications=dict(_applications(catalog)),
            templates=templates,
        )

    @classmethod
    def empty(cls) -> Self:
        """What is known before the first catalog: nothing, and nobody may call."""
        return cls("", (), {}, {}, {})

    @property
    def ready(self) -> bool:
        """Whether a catalog has arrived."""
        return bool(self.revision)

    def strategies(self) -> dict[str, RoutingStrategy]:
        """How the replicas of every application are chosen."""
        of_models = {
            application: model.routing
            for model in self.models.values()
            for application in (model.application, model.canary.application if model.canary else None)
            if application is not None
        }
        return dict.fromkeys(self.applications, _UNTOLD) | of_models

    def revisions(self) -> set[tuple[str, str]]:
        """Every model's id with each of its revisions that take requests."""
        stable = {(model.id, model.revision) for model in self.models.values()}
        canaries = {(model.id, model.canary.revision) for model in self.models.values() if model.canary}
        embedders = {(index.embedder, index.embedder_revision) for index in self.indexes.values()}
        return stable | canaries | embedders


def _applications(catalog: Catalog) -> Iterator[tuple[str, int | None]]:
    for index in catalog.indexes:
        yield index.embedder_application, None
    for model in catalog.models:
        yield model.application, None
        if model.canary is not None:
            yield model.canary.application, model.canary.since


@dataclass(frozen=True)
class Arrived:
    """A catalog that may be served."""

    snapshot: Snapshot
    parsed: Mapping[Key, CompiledPrompt]
    """Prompts of it that were parsed for it."""


class GatewayState:
    """Holds the snapshot that new requests start with, and counts what becomes of the applications and prompts in it."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self._current = Snapshot.empty()
        self._taking = asyncio.Lock()
        self.traffic = Ledger()
        self.uses = PromptUses()
        self._templates = Templates()

    @property
    def current(self) -> Snapshot:
        """The latest accepted catalog."""
        return self._current

    async def take(self, user_config: object) -> None:
        """Take `{"catalog": packed}`; a bad document is logged and the previous catalog kept. Never raises: Ray Serve
        would kill the replica.

        A catalog and its prompts are parsed in a thread, so that requests go on; one after the other, in their order.
        """
        async with self._taking:
            arrived = await asyncio.to_thread(self.read, user_config)
            if arrived is not None:
                self.switch(arrived)

    def read(self, user_config: object) -> Arrived | None:
        """What `user_config` holds, ready for use; None where it is refused. Changes nothing: any thread may do it."""
        try:
            text = user_config["catalog"] if isinstance(user_config, Mapping) else None
            known = self._current.prompts.values()
            snapshot = Snapshot.of(Catalog.parse(packing.unpack(text), known), self._templates)
            return Arrived(snapshot, self._templates.ahead(snapshot.prompts.values()))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            self._refuse([f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems[:5]])
        except Exception as error:  # noqa: BLE001 - whatever is wrong, requests go on with the previous catalog
            self._refuse([f"{type(error).__name__}: {error}"])
        return None

    def switch(self, arrived: Arrived) -> None:
        """Let new requests start with what has arrived."""
        snapshot = self._current = arrived.snapshot
        self._templates.keep(snapshot.prompts.values(), arrived.parsed)
        self.traffic.follow(snapshot.applications)
        self.uses.follow(
            (prompt.id, each.revision) for prompt in snapshot.prompts.values() for each in prompt.revisions
        )
        self._log.info("catalog accepted", catalog=snapshot.revision)

    def _refuse(self, problems: list[str]) -> None:
        self._log.error("catalog refused", kept=self._current.revision, problems=problems)
