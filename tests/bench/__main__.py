# SPDX-License-Identifier: Apache-2.0
"""`hack/bench`: measure a stack of its own and write the figures as JSON, and as a table into the README.

Needs a quiet machine; says so in the result when it was not (load average beside the figures).
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench import figures, peers, prompt_scale, prompts, reindex, search_scale, serving, streaming, table
from bench.retrieval import measure as retrieval
from lateen_cli.state import StateDir
from stack.local import REPOSITORY, SHIPPED_RESYNC_SECONDS, LocalStack
from stack.parts import RayServe, Weaviate


def say(text: str) -> None:
    """Progress."""
    sys.stderr.write(f"bench: {text}\n")


def measure(stack: LocalStack) -> dict[str, Any]:
    """The figures of one stack."""
    result: dict[str, Any] = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    say("time to first answer")
    stack.fill_volumes()
    result["first_answer"] = figures.first_answer(stack)
    say("prompts")
    result["prompts"] = prompts.measure(stack.volume("models") / "smollm2-135m-instruct")
    ray, weaviate = RayServe.of(stack), Weaviate.of(stack)
    with ray.http, weaviate.http:
        figures.prepare(stack)
        figures.settle(ray)
        say("idle memory")
        result["memory"] = figures.memory(stack)
        say("create to Ready")
        result["create_to_ready_s"] = figures.create_to_ready(stack)
        figures.settle(ray)
        say("gateway overhead")
        result["gateway"] = figures.gateway_overhead(stack, ray)
        say("the engine alone")
        result["engine_alone"] = serving.engine_alone(stack)
        say("requests a second")
        result["rate"] = serving.rate(stack, ray, figures.NAMESPACE)
        result["paced"] = serving.paced(stack, ray, figures.NAMESPACE)
        say("tokens a second")
        result["streams"] = serving.streams(stack, figures.NAMESPACE)
        say("scaling")
        result["scaling"] = serving.scaling(stack, ray, figures.NAMESPACE)
        figures.settle(ray)
        say("ingest")
        result["ingest"] = figures.ingest(stack, ray, weaviate)
    return result


def measure_prompt_scale(root: Path) -> dict[str, Any]:
    """The figures of many prompts, on a stack of its own."""
    say("many prompts")
    where = machine()
    stack = LocalStack(StateDir.at(root))
    try:
        stack.start(SHIPPED_RESYNC_SECONDS)
        return prompt_scale.measure(stack) | {"load_before": where["load_before"]}
    finally:
        stack.stop()


def measure_alone(text: str, work: Callable[[LocalStack], dict[str, Any]], root: Path) -> dict[str, Any]:
    """The figures that `work` takes of a stack of its own."""
    say(text)
    where = machine()
    stack = LocalStack(StateDir.at(root))
    stack.fill_volumes()
    try:
        stack.start()
        return work(stack) | {"load_before": where["load_before"]}
    finally:
        stack.stop()


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "prompt_scale": measure_prompt_scale,
    "reindex": partial(measure_alone, "searches beside a rebuild", reindex.measure),
    "ingest": partial(measure_alone, "ingest", figures.ingest_alone),
    "retrieval": partial(measure_alone, "known-item searches", retrieval.measure),
    "search": partial(measure_alone, "searches among many passages", search_scale.measure),
    "stream": partial(measure_alone, "memory of builds", streaming.measure),
}
"""What can be measured alone, by its key in the result."""


SERVING = "serving"
"""All that is measured on one stack, as `PARTS` are each on one of its own; its keys stand beside theirs."""


def measure_some(only: str | None, root: Path) -> dict[str, Any]:
    """The figures of one part, or all."""
    if only in PARTS:
        return {only: PARTS[only](root)}
    stack = LocalStack(StateDir.at(root))
    try:
        result = measure(stack)
    finally:
        stack.stop()
    rest = () if only == SERVING else PARTS.keys() - result.keys()
    return result | {name: PARTS[name](root) for name in sorted(rest)}


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def main(arguments: list[str]) -> int:
    """Measure, or only refresh the table; the exit status."""
    options = _options(arguments)
    kept = json.loads(options.output.read_text()) if options.output.exists() else {}
    if options.peers:
        kept |= {"peers": peers.kept(json.loads(options.peers.read_text()))}
    elif not options.only_table:
        state = os.environ.get("LATEEN_TEST_STATE")
        with tempfile.TemporaryDirectory(prefix="lateen-bench-") as scratch:
            root = Path(state or scratch) / "s"
            kept |= measure_some(options.only, root)
    options.output.write_text(json.dumps(kept, indent=2) + "\n")
    options.readme.write_text(table.replace(options.readme.read_text(), table.render(kept)))
    say(f"wrote {options.output} and the table in {options.readme}")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hack/bench", description=__doc__)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "bench.json")
    parser.add_argument("--readme", type=Path, default=REPOSITORY / "README.md")
    parser.add_argument("--only-table", action="store_true", help="write the table from an earlier result")
    parser.add_argument("--peers", type=Path, help="keep a comparison with other servers (its JSON)")
    parser.add_argument(
        "--only", choices=[SERVING, *PARTS], help="measure this, and keep an earlier result's rest"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
