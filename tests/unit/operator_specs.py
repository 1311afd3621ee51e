# SPDX-License-Identifier: Apache-2.0
"""Specs of one resource of each kind, and worlds made of them; used by the tests of `reconcile/`."""

from typing import Any

from lateen_api import names, packing
from lateen_api.catalog import Catalog
from lateen_operator.seams import Key, Kind
from unit.operator_fakes import FakeOperator, FakeWorld

LLM = Key(Kind.MODEL_DEPLOYMENT, "default", "llm")
EMBEDDER = Key(Kind.MODEL_DEPLOYMENT, "default", "embedder")
PROMPT = Key(Kind.PROMPT_TEMPLATE, "default", "answer")
INDEX = Key(Kind.RAG_INDEX, "default", "handbook")


def model(task: str = "generate", uri: str = "pvc://models/a", **more: Any) -> dict[str, Any]:
    """Spec of a model; one replica unless `more` says otherwise."""
    number = {} if "autoscaling" in more else {"replicas": 1}
    return {"task": task, "source": {"uri": uri}, **number, **more}


def prompt(version: str = "1", text: str = "Answer: {question}", **more: Any) -> dict[str, Any]:
    """Spec of a prompt."""
    messages = [{"role": "user", "content": text}]
    return {"version": version, "messages": messages, "variables": [{"name": "question"}], **more}


def index(size: int = 200, text: str = "hello", **more: Any) -> dict[str, Any]:
    """Spec of an index."""
    source = {"name": "notes", "inline": {"documents": [{"name": "a.md", "text": text}]}}
    chunking = {"strategy": "Token", "size": size}
    return {
        "sources": [source],
        "chunking": chunking,
        "embedding": {"modelRef": {"name": "embedder"}},
        **more,
    }


def everything(world: FakeWorld) -> FakeWorld:
    """One resource of each kind, two models."""
    world.put(Kind.MODEL_DEPLOYMENT, "llm", model())
    world.put(Kind.MODEL_DEPLOYMENT, "embedder", model("embed", "pvc://models/e"))
    world.put(Kind.PROMPT_TEMPLATE, "answer", prompt())
    world.put(Kind.RAG_INDEX, "handbook", index())
    return world


async def settled() -> tuple[FakeWorld, FakeOperator]:
    """A world in which everything is Ready."""
    world = everything(FakeWorld())
    operator = FakeOperator(world)
    await operator.settle()
    return world, operator


def catalog(world: FakeWorld) -> Catalog:
    """The catalog the gateway was last given."""
    config = world.applications[names.GATEWAY_APPLICATION].config
    assert config is not None
    return Catalog.parse(packing.unpack(config["deployments"][0]["user_config"]["catalog"]))
