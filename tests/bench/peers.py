# SPDX-License-Identifier: Apache-2.0
"""Figures beside other servers: what is kept of a comparison in one run, and its table. Pure; called by `__main__.py` and `table.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

_OURS = "mine"
_NAMES = {_OURS: "Lateen", "vllm": "vLLM", "transformers": "transformers serve", "llamacpp": "llama.cpp"}


def kept(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """What is published of a comparison: medians, starts and memory, without addresses.

    Args:
        comparison: Result of the load generator: `summary` (a row per scenario and number of streams, with the
            figures of each server), `servers` (seconds to start, MiB of memory), `options`, `date`, `cores`.

    Raises ValueError when other processes disturbed a row: such figures prove nothing.

    """
    rows = comparison["summary"]
    disturbed = [name for row in rows for name, found in row["servers"].items() if found["noisy"]]
    if disturbed:
        raise ValueError(f"other processes disturbed the figures of {', '.join(sorted(set(disturbed)))}")
    options = {name: comparison["options"][name] for name in ("max_tokens", "requests_per_stream", "rounds")}
    return {
        "when": comparison["date"],
        "cores": comparison["cores"],
        **options,
        "servers": comparison["servers"],
        "rows": [{name: row[name] for name in ("scenario", "streams", "servers")} for row in rows],
    }


def render(peers: Mapping[str, Any]) -> str:
    """The table in Markdown, a column per server."""
    servers = list(peers["servers"])
    lines = [
        (
            f"Beside other servers, in one run of {peers['when'][:10]}: the same weights and prompts, answers of "
            f"{peers['max_tokens']} tokens. Lateen's figures are of the whole way, gateway included."
        ),
        "",
        _row("Tokens/s (milliseconds to the first token)", [_NAMES.get(name, name) for name in servers]),
        "|---" * (len(servers) + 1) + "|",
        *(
            _row(_streams(row["streams"]), [_speed(row["servers"][name]) for name in servers])
            for row in peers["rows"]
        ),
        _row(
            "Process start to the first answer",
            [f"{peers['servers'][n]['start_s'][0]:.0f} s" for n in servers],
        ),
        _row("Memory while idle", [_memory(peers["servers"][name]) for name in servers]),
    ]
    return "\n".join(lines)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _streams(count: int) -> str:
    return f"{count} stream{'' if count == 1 else 's'}"


def _speed(found: Mapping[str, Any]) -> str:
    return f"{found['tokens_per_s']:.0f} ({found['ttft_p50']:.0f})"


def _memory(found: Mapping[str, Any]) -> str:
    return f"{found['idle_pss_mib'][0] / 1024:.1f} GiB"
