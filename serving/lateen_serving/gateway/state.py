# SPDX-License-Identifier: Apache-2.0
"""What the gateway knows: the current catalog, indexed by id. Replaced as a whole by `app.py` when the operator
sends another one; a request reads it once at its start, so that a switch never affects a request in flight.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import structlog
from pydantic import ValidationError

from lateen_api.catalog import ApiKey, Catalog, Index, Model, Prompt


@dataclass(frozen=True)
class Snapshot:
    """One catalog, ready for look-ups."""

    revision: str
    """`Catalog.revision`; empty before the first catalog."""

    keys: tuple[ApiKey, ...]
    models: Mapping[str, Model]
    prompts: Mapping[str, Prompt]
    indexes: Mapping[str, Index]

    @classmethod
    def of(cls, catalog: Catalog) -> Self:
        """A catalog's content by id."""
        return cls(
            revision=catalog.revision,
            keys=tuple(catalog.keys),
            models={model.id: model for model in catalog.models},
            prompts={prompt.id: prompt for prompt in catalog.prompts},
            indexes={index.id: index for index in catalog.indexes},
        )

    @classmethod
    def empty(cls) -> Self:
        """What is known before the first catalog: nothing, and nobody may call."""
        return cls("", (), {}, {}, {})

    @property
    def ready(self) -> bool:
        """Whether a catalog has arrived."""
        return bool(self.revision)


class GatewayState:
    """Holds the snapshot that new requests start with."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self._current = Snapshot.empty()

    @property
    def current(self) -> Snapshot:
        """The latest accepted catalog."""
        return self._current

    def accept(self, user_config: object) -> None:
        """Take `{"catalog": {...}}`; a bad document is logged and the previous catalog kept. Never raises:
        Ray Serve would kill the replica.
        """
        try:
            document = user_config["catalog"] if isinstance(user_config, Mapping) else None
            snapshot = Snapshot.of(Catalog.parse(document))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            self._refuse([f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems[:5]])
        except Exception as error:  # noqa: BLE001 - whatever is wrong, requests go on with the previous catalog
            self._refuse([f"{type(error).__name__}: {error}"])
        else:
            self._current = snapshot
            self._log.info("catalog accepted", catalog=snapshot.revision)

    def _refuse(self, problems: list[str]) -> None:
        self._log.error("catalog refused", kept=self._current.revision, problems=problems)
