# SPDX-License-Identifier: Apache-2.0
"""The README's table of figures."""

import pytest

from bench import table

RESULT = {
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
    "create_to_ready_s": {"PromptTemplate": 0.42},
    "memory": {"mib": {"etcd": 45.2}, "total_mib": 2048.0},
}


def test_every_figure_has_a_row() -> None:
    """Numbers are rounded to what they mean."""
    text = table.render(RESULT)
    for piece in (
        "52 s",
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
