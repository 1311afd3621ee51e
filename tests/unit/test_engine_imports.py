# SPDX-License-Identifier: Apache-2.0
"""What a starting replica imports, each time in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine_models import Reference, save_adapter, save_bert, save_llama

HEAVY = ("torch._dynamo.utils", "torch._inductor", "torch.distributed.tensor", "triton", "pandas",
         "scipy", "sklearn", "peft", "vllm")  # fmt: skip

START = f"""
import asyncio, gc, json, sys, warnings
from pathlib import Path
import lateen_serving.engine.app
from lateen_serving.engine.embedder import TextEmbedder
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.options import LoadOptions

async def main():
    said = {{"early": [name for name in ("torch", "transformers") if name in sys.modules]}}
    kind = TextGenerator if sys.argv[2] == "generate" else TextEmbedder
    engine = await kind.create(LoadOptions(Path(sys.argv[1]), dtype="float32"))
    said["heavy"] = [name for name in {HEAVY} if name in sys.modules]
    said["collecting"] = gc.isenabled()
    if kind is TextGenerator:
        if len(sys.argv) > 3:
            said["adapters"] = await engine.set_adapters([dict(name="red", folder=sys.argv[3], identity="1")])
        request = dict(messages=[dict(role="user", content="hi")], max_tokens=24, temperature=0.0, top_p=1.0,
                       seed=None, stop=[])
        said["answer"] = "".join([event["text"] async for event in engine.generate(request)])
    await engine.aclose()
    if len(sys.argv) > 3:
        import torch
        import torch._dynamo.config
        said["compiled"] = torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).tolist()
    print(json.dumps(said))

asyncio.run(main())
"""


def start(*arguments: object) -> Any:
    """What a process that starts an engine says."""
    return _said(START, *arguments)


def _said(program: str, *arguments: object) -> Any:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_generator_starts_without_compilers_and_adapters(tmp_path: Path) -> None:
    """Torch comes with the engine, compilers and peft don't come at all, and the answer is transformers' own."""
    said = start(save_llama(tmp_path), "generate")
    assert said == {"early": [], "heavy": [], "collecting": True, "answer": Reference(tmp_path).answer("hi")}


def test_an_embedder_starts_without_compilers(tmp_path: Path) -> None:
    """An encoder needs no more than a generator."""
    said = start(save_bert(tmp_path, "mean_tokens"), "embed")
    assert said == {"early": [], "heavy": [], "collecting": True}


# peft asks transformers in a way that transformers will drop.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_what_was_left_out_comes_when_it_is_needed(tmp_path: Path) -> None:
    """Adapters load in a process that began without peft, and torch's compiler still works there."""
    folder = save_llama(tmp_path / "model")
    said = start(folder, "generate", save_adapter(folder, tmp_path / "red", 1))
    assert (said["heavy"], said["adapters"], said["compiled"]) == ([], {}, [2.0])
    assert said["answer"] == Reference(folder).answer("hi")


def test_a_module_of_the_compiler_brings_the_compiler() -> None:
    """While a model is loaded, code that really needs the compiler gets it whole."""
    said = _said(
        "import json\n"
        "from lateen_serving.engine import imports\n"
        "with imports.slim():\n"
        "    import torch._dynamo as stand_in\n"
        "    from torch._dynamo.utils import counters\n"
        "import torch._dynamo\n"
        "print(json.dumps([torch._dynamo is stand_in, torch._dynamo.utils.counters is counters]))\n"
    )
    assert said == [False, True]
