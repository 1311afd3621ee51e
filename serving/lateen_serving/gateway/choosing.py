# SPDX-License-Identifier: Apache-2.0
"""Which revision of a model takes a request. Pure; called by `calling.py`."""

from lateen_api.catalog import Model


def turns(model: Model, roll: float) -> tuple[Model, ...]:
    """The revisions that may answer, as models of their own: first the one that takes the request, then, while a
    canary runs, the other one, for the case that the first becomes unavailable.

    `model` is the catalog's; `roll` a random number in [0, 1) that belongs to the request, so that it always gets the
    same revision.
    """
    canary = of_canary(model)
    if model.canary is None or canary is None:
        return (model,)
    return (canary, model) if roll * 100 < model.canary.weight else (model, canary)


def of_canary(model: Model) -> Model | None:
    """The model as its canary serves it; None without one."""
    canary = model.canary
    if canary is None:
        return None
    return model.model_copy(
        update={"revision": canary.revision, "application": canary.application, "canary": None}
    )
