# SPDX-License-Identifier: Apache-2.0
"""The README's table of figures."""

from typing import Any

import pytest

from bench import peers, table

RESULT: dict[str, Any] = {
    "when": "2026-11-22T10:00:00+00:00",
    "machine": {"cores": 2, "architecture": "x86_64"},
    "first_answer": {"stack_up_s": 30.4, "resources_ready_s": 20.2, "answer_s": 1.26, "total_s": 51.86},
    "gateway": {"overhead_p50_ms": 2.34, "overhead_p99_ms": 5.67},
    "rate": {
        "clients": 16,
        "added_p50_ms": 3.21,
        "added_p99_ms": 9.87,
        "gateway_requests_per_s": 321.4,
        "ratio_to_plain": 4.56,
    },
    "paced": {"clients": 16, "added_p50_ms": 1.23, "added_p99_ms": 4.56},
    "streams": {"1": {"tokens_per_s": 24.3, "ratio": 0.991}, "8": {"tokens_per_s": 130.2, "ratio": 0.967}},
    "scaling": {"three_wanted_s": 1.23, "one_to_three_s": 6.54, "zero_to_first_token_s": 7.89, "load_s": 6},
    "ingest": {"ratio": 0.876},
    "prompts": {
        "render_p50_ms": 0.104,
        "render_p99_ms": 0.206,
        "with_tokens_p50_ms": 3.14,
        "with_tokens_p99_ms": 4.56,
        "jinja": {
            "render_p50_ms": 0.304,
            "render_p99_ms": 0.406,
            "with_tokens_p50_ms": 3.54,
            "with_tokens_p99_ms": 4.96,
        },
    },
    "prompt_scale": {
        "templates": 200,
        "versions": 20,
        "create_p50_s": 3.21,
        "create_p95_s": 6.54,
        "change_one_p50_s": 1.11,
        "change_one_p95_s": 2.26,
        "requests": 4321,
        "failed_requests": 0,
        "catalog_bytes": 5_505_024,
    },
    "retrieval": {
        "documents": 3147,
        "modes": {
            "Vector": {
                "named": {"recall_1": 0.643, "recall_3": 0.767, "recall_10": 0.862, "mrr": 0.718},
                "meant": {"recall_1": 0.361, "recall_3": 0.533, "recall_10": 0.652, "mrr": 0.463},
            }
        },
    },
    "search": {
        "candidates": 30,
        "sizes": {
            "100000": {
                f"{part}_p{p}_ms": at + p / 100
                for at, part in enumerate(("whole", "whole_reranked", "embed", "search", "rerank"), start=20)
                for p in (50, 99)
            }
        },
    },
    "stream": {
        "sizes": {
            "10000": {"documents": 10_000, "mib": 210.4},
            "100000": {"documents": 100_000, "mib": 377.6},
        }
    },
    "create_to_ready_s": {"PromptTemplate": 0.42},
    "memory": {"mib": {"etcd": 45.2}, "total_mib": 2048.0},
}


def test_every_figure_has_a_row() -> None:
    """Numbers are rounded to what they mean."""
    text = table.render(RESULT)
    for piece in (
        "52 s",
        "Vector: right one of 3147 documents first, in 3, in 10; MRR; asked in its own words",
        "64 %, 77 %, 86 %; 0.72",
        "36 %, 53 %, 65 %; 0.46",
        "Search, 100,000 passages, p50 / p99 | 20.5 / 21.0 ms",
        "… 30 reranked, 100,000 passages, p50 / p99 | 21.5 / 22.0 ms",
        "… of that: Weaviate, 100,000 passages, p50 / p99 | 23.5 / 24.0 ms",
        "Build's memory, 10,000 and 100,000 documents | 210, 378 MiB",
        "30, 20, 1.3 s",
        "+2.3 / +5.7 ms",
        "40 requests/s in all | +1.2 / +4.6 ms",
        "+3.2 / +9.9 ms",
        "321 (4.6 times)",
        "Tokens/s of 1 stream (of the bare engine's) | 24 (99 %)",
        "Tokens/s of 8 streams (of the bare engine's) | 130 (97 %)",
        "1.2, 6.5 s",
        "KB checked and rendered, p50 / p99 | 0.10 / 0.21 ms",
        "tokens, p50 / p99 | 3.14 / 4.56 ms",
        "Prompt of 4 KB with a loop and rules checked and rendered, p50 / p99 | 0.30 / 0.41 ms",
        "tokens, p50 / p99 | 3.54 / 4.96 ms",
        "7.9 s (6 s)",
        "200 new prompts at once, create to live, p50 / p95 | 3.2 / 6.5 s",
        "One change among 200 prompts of 20 versions, to live, p50 / p95 | 1.1 / 2.3 s",
        "0 (4321)",
        "5.2 MiB",
        "88 %",
        "0.4 s",
        "2.0 GiB",
        "45 MiB",
        "2026-11-22",
    ):
        assert piece in text


def test_a_result_without_prompts_has_no_rows_of_them() -> None:
    """The table of a result from before prompts were measured shows what there is."""
    assert "4 KB" not in table.render({key: value for key, value in RESULT.items() if key != "prompts"})


def test_searches_beside_a_rebuild_are_told() -> None:
    """How much slower they were and how many were lost; a result from before has no such rows."""
    found = {
        "passages": 850, "during_p50_ms": 31.2, "during_p99_ms": 88.8, "ratio_p50": 1.23, "ratio_p99": 1.87,
        "failed": 0, "empty": 1, "searches_during": 789,
    }  # fmt: skip
    text = table.render(RESULT | {"reindex": found})
    assert "rebuild of 850 passages, p50 / p99 (of before) | 31 / 89 ms (1.2 / 1.9 times)" in text
    assert "Searches that failed or found nothing meanwhile (of) | 1 (789)" in text
    assert "rebuild" not in table.render(RESULT)


def test_the_way_from_the_engine_to_the_gateway_is_told() -> None:
    """What the engine takes alone, by its handle and through the gateway; a result from before has no such rows."""
    times = {"gateway_p50_ms": 9.91, "gateway_p99_ms": 20.2}
    gateway = RESULT["gateway"] | {"direct_p50_ms": 7.12, "direct_p99_ms": 11.1} | times
    rate = RESULT["rate"] | {"handle_p50_ms": 40.4, "handle_p99_ms": 60.6} | times
    alone = {"1": {"p50_ms": 4.44, "p99_ms": 5.54}, "16": {"p50_ms": 12.3, "p99_ms": 13.4}}
    text = table.render(RESULT | {"gateway": gateway, "rate": rate, "engine_alone": alone})
    assert "gateway: one client, p50 / p99 | 4.4 / 5.5, 7.1 / 11.1, 9.9 / 20.2 ms" in text
    assert "gateway: 16 clients, p50 / p99 | 12.3 / 13.4, 40.4 / 60.6, 9.9 / 20.2 ms" in text
    assert "Engine alone" not in table.render(RESULT)


def test_only_what_is_between_the_markers_changes() -> None:
    """The rest of the README stays byte for byte, however often it is refreshed."""
    text = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    once = table.replace(text, "new")
    assert once == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
    assert table.replace(once, "new") == once


@pytest.mark.parametrize("text", ["", table.BEGIN, f"{table.END}{table.BEGIN}"])
def test_missing_markers_are_an_error(text: str) -> None:
    """A README without them isn't overwritten."""
    with pytest.raises(ValueError, match="must both be there"):
        table.replace(text, "new")


def compared(noisy: bool) -> dict[str, object]:
    """A comparison of two servers at one number of streams."""
    figures = {"tokens_per_s": 23.6, "ttft_p50": 158.4, "noisy": noisy}
    return {
        "date": "2026-11-24T10:00:00Z",
        "cores": 2,
        "options": {"max_tokens": 64, "requests_per_stream": 2, "rounds": 1, "mine": "http://127.0.0.1:1/v1"},
        "servers": {name: {"start_s": [24.4], "idle_pss_mib": [2048]} for name in ("mine", "vllm")},
        "summary": [{"scenario": "chat", "streams": 8, "servers": {"mine": figures, "vllm": figures}}],
    }


def test_other_servers_have_a_table_of_their_own() -> None:
    """What is kept of a comparison is shown below the figures, without the address of the server."""
    found = peers.kept(compared(noisy=False))
    text = table.render(RESULT | {"peers": found})
    assert "| 8 streams | 24 (158) | 24 (158) |" in text
    assert "| Process start to the first answer | 24 s | 24 s |" in text
    assert "2.0 GiB" in text
    assert "127.0.0.1" not in str(found)


def test_a_disturbed_comparison_is_not_kept() -> None:
    """Figures that other processes disturbed prove nothing and are refused."""
    with pytest.raises(ValueError, match="mine, vllm"):
        peers.kept(compared(noisy=True))
