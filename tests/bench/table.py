# SPDX-License-Identifier: Apache-2.0
"""The README's table of figures, made from a result file. Pure."""

from typing import Any

from bench import peers

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"


def render(result: dict[str, Any]) -> str:
    """The table in Markdown."""
    first, gateway, ingest = result["first_answer"], result["gateway"], result["ingest"]
    ready, memory, machine = result["create_to_ready_s"], result["memory"], result["machine"]
    rows = [
        ("Nothing running to the first answer", f"{first['total_s']:.0f} s"),
        ("… of that: stack up, resources Ready, answer", _parts(first)),
        ("Gateway over the model's own handle, one client, p50 / p99", _overhead(gateway)),
        *_alone(result),
        *_serving(result),
        *_prompts(result),
        *_prompt_scale(result),
        ("Index build, of the bare embedder's rate", f"{100 * ingest['ratio']:.0f} %"),
        *_reindex(result),
        *_retrieval(result),
        *_search(result),
        *_stream(result),
        *((f"Create to Ready, {kind}", f"{seconds:.1f} s") for kind, seconds in ready.items()),
        ("Idle memory, all processes (PSS)", f"{memory['total_mib'] / 1024:.1f} GiB"),
        *((f"… {name}", f"{mib:.0f} MiB") for name, mib in memory["mib"].items()),
    ]
    where = f"{machine['cores']} cores, {machine['architecture']}, no GPU, {result['when'][:10]}"
    lines = [
        f"By `hack/bench` on {where}; all of it: [docs/bench.json](docs/bench.json).",
        "",
        "| What | Figure |",
        "|---|---|",
    ]
    beside = ["", peers.render(result["peers"])] if "peers" in result else []
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows), *beside])


def replace(text: str, table: str) -> str:
    """`text` with the table between its markers; raises ValueError where they are missing."""
    start, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"{BEGIN} and {END} must both be there")
    return f"{start}{BEGIN}\n{table}\n{END}{after}"


def _alone(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of the whole way, from the engine to the gateway; none for a result from before it was measured."""
    alone, gateway, rate = result.get("engine_alone"), result["gateway"], result["rate"]
    if alone is None:
        return []
    many = str(rate["clients"])
    ways = {
        "one client": (_times(alone["1"]), _times(gateway, "direct_"), _times(gateway, "gateway_")),
        f"{many} clients": (_times(alone[many]), _times(rate, "handle_"), _times(rate, "gateway_")),
    }
    return [
        (f"Engine alone, Ray handle, gateway: {clients}, p50 / p99", f"{', '.join(times)} ms")
        for clients, times in ways.items()
    ]


def _times(found: dict[str, float], prefix: str = "") -> str:
    return f"{found[f'{prefix}p50_ms']:.1f} / {found[f'{prefix}p99_ms']:.1f}"


def _serving(result: dict[str, Any]) -> list[tuple[str, str]]:
    rate, paced, scaling = result["rate"], result["paced"], result["scaling"]
    added = f"+{rate['added_p50_ms']:.1f} / +{rate['added_p99_ms']:.1f} ms"
    calm = f"+{paced['added_p50_ms']:.1f} / +{paced['added_p99_ms']:.1f} ms"
    times = f"{rate['gateway_requests_per_s']:.0f} ({rate['ratio_to_plain']:.1f} times)"
    streams = [
        (
            f"Tokens/s of {count} stream{'' if count == '1' else 's'} (of the bare engine's)",
            f"{found['tokens_per_s']:.0f} ({100 * found['ratio']:.0f} %)",
        )
        for count, found in result["streams"].items()
    ]
    return [
        (f"The same with {rate['clients']} clients, 40 requests/s in all", calm),
        (f"The same with {rate['clients']} clients that never pause (the machine is full)", added),
        (f"Requests/s of {rate['clients']} clients (of plain Ray Serve's)", times),
        *streams,
        ("Load to three replicas wanted, serving", _grown(scaling)),
        ("No replica to the first token (load time)", _woken(scaling)),
    ]


def _grown(scaling: dict[str, Any]) -> str:
    return f"{scaling['three_wanted_s']:.1f}, {scaling['one_to_three_s']:.1f} s"


def _prompts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of the prompt's cost; none for a result from before it was measured."""
    prompts = result.get("prompts")
    if prompts is None:
        return []
    named = [("Prompt of 4 KB", prompts)]
    if "jinja" in prompts:
        named.append(("Prompt of 4 KB with a loop and rules", prompts["jinja"]))
    return [
        (f"{name}, p50 / p99", f"{each[f'{key}_p50_ms']:.2f} / {each[f'{key}_p99_ms']:.2f} ms")
        for prompt, each in named
        for name, key in (
            (f"{prompt} checked and rendered", "render"),
            ("The same and counted in tokens", "with_tokens"),
        )
    ]


def _prompt_scale(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of many prompts; none for a result from before they were measured."""
    scale = result.get("prompt_scale")
    if scale is None:
        return []
    size = f"{scale['templates']} prompts of {scale['versions']} versions"
    return [
        (
            f"{scale['templates']} new prompts at once, create to live, p50 / p95",
            f"{scale['create_p50_s']:.1f} / {scale['create_p95_s']:.1f} s",
        ),
        (
            f"One change among {size}, to live, p50 / p95",
            f"{scale['change_one_p50_s']:.1f} / {scale['change_one_p95_s']:.1f} s",
        ),
        (
            "Requests that failed meanwhile (of)",
            f"{scale['failed_requests']} ({scale['requests']})",
        ),
        (f"Catalog of {size}", f"{scale['catalog_bytes'] / 2**20:.1f} MiB"),
    ]


def _reindex(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of searches beside a rebuild; none for a result from before they were measured."""
    found = result.get("reindex")
    if found is None:
        return []
    ratios = f"{found['ratio_p50']:.1f} / {found['ratio_p99']:.1f} times"
    return [
        (
            f"Search beside a rebuild of {found['passages']} passages, p50 / p99 (of before)",
            f"{found['during_p50_ms']:.0f} / {found['during_p99_ms']:.0f} ms ({ratios})",
        ),
        (
            "Searches that failed or found nothing meanwhile (of)",
            f"{found['failed'] + found['empty']} ({found['searches_during']})",
        ),
    ]


def _retrieval(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of known-item searches; none for a result from before they were measured."""
    found = result.get("retrieval")
    if found is None:
        return []
    names = {"named": "in its own words", "meant": "in few and common words"}
    return [
        (
            f"{mode}: right one of {found['documents']} documents first, in 3, in 10; MRR; asked {names[kind]}",
            f"{_shares(each)}; {each['mrr']:.2f}",
        )
        for mode, kinds in found["modes"].items()
        for kind, each in kinds.items()
    ]


def _shares(found: dict[str, float]) -> str:
    return ", ".join(f"{100 * found[f'recall_{cut}']:.0f} %" for cut in (1, 3, 10))


def _search(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of searches among many passages; none for a result from before they were measured."""
    found = result.get("search")
    if found is None:
        return []
    names = {
        "whole": "Search",
        "whole_reranked": f"… {found['candidates']} reranked",
        "embed": "… of that: embedding",
        "search": "… of that: Weaviate",
        "rerank": "… of that: reranking",
    }
    return [
        (
            f"{name}, {int(size):,} passages, p50 / p99",
            f"{each[f'{key}_p50_ms']:.1f} / {each[f'{key}_p99_ms']:.1f} ms",
        )
        for size, each in found["sizes"].items()
        for key, name in names.items()
    ]


def _stream(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Row of the memory of builds; none for a result from before it was measured."""
    found = result.get("stream")
    if found is None:
        return []
    few, many = (found["sizes"][size] for size in sorted(found["sizes"], key=int))
    return [
        (
            f"Build's memory, {few['documents']:,} and {many['documents']:,} documents",
            f"{few['mib']:.0f}, {many['mib']:.0f} MiB",
        )
    ]


def _woken(scaling: dict[str, Any]) -> str:
    return f"{scaling['zero_to_first_token_s']:.1f} s ({scaling['load_s']} s)"


def _parts(first: dict[str, float]) -> str:
    return f"{first['stack_up_s']:.0f}, {first['resources_ready_s']:.0f}, {first['answer_s']:.1f} s"


def _overhead(gateway: dict[str, float]) -> str:
    return f"+{gateway['overhead_p50_ms']:.1f} / +{gateway['overhead_p99_ms']:.1f} ms"
