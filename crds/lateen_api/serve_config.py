# SPDX-License-Identifier: Apache-2.0
"""What the operator writes into the declarative Ray Serve config: arguments of the two application builders.

Import paths are strings here, so that the sides meet without importing each other; a contract test resolves them.
"""

from typing import Literal

from lateen_api.model_deployment import Task
from lateen_api.schema import SpecType

GATEWAY_IMPORT_PATH = "lateen_serving.gateway.app:build"
"""`build(args: dict) -> Application`; takes the Catalog as `user_config={"catalog": {...}}`."""

MODEL_IMPORT_PATH = "lateen_serving.engine.app:build"
"""`build(args: dict) -> Application`; `args` is a `ModelArguments` document."""


class ModelArguments(SpecType):
    """Arguments of a model application: everything a replica needs to load its weights."""

    id: str
    """What clients call the model; for logs."""

    task: Task
    """What it does."""

    uri: str
    """Where the weights come from, as in `spec.source.uri`."""

    engine: Literal["transformers"]
    """The engine; `auto` has been decided by the operator."""

    dtype: str = "auto"
    """Number format, as in `spec.engine.dtype`."""

    max_model_len: int | None = None
    """Longest sequence in tokens; None: what the model was trained for."""

    threads: int = 1
    """Compute threads of a replica."""

    attempt: int = 0
    """Counts the operator's retries of a failed start; a changed value makes Ray Serve try again."""


REPLICA_FAILURE = "lateen-failure"
"""A replica that can't start raises an exception whose text has the line `lateen-failure Reason: message`.

Ray Serve repeats that text in the application's status, where the operator finds it again.
Reasons are those of `conditions.Reason`.
"""
