# SPDX-License-Identifier: Apache-2.0
"""Replaces personal data in a document, keeping its headings and pages where they belong. Pure."""

import re
from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate, pairwise

from lateen_api.prompts import personal_data
from lateen_serving.rag.parsing.parsed import Parsed

_PLACEHOLDER = re.compile(
    "|".join(
        re.escape(name)
        for name in (
            personal_data.EMAIL,
            personal_data.PHONE,
            personal_data.IBAN,
            personal_data.CREDIT_CARD,
            personal_data.IP_ADDRESS,
        )
    )
)


def redacted(parsed: Parsed) -> Parsed:
    """The document with placeholders in text, title, headings and metadata; `redactions` counts those in the text."""
    marks = {
        0,
        len(parsed.text),
        *(at for heading in parsed.headings for at in (heading.start, heading.end)),
        *(at for fence in parsed.fences for at in fence),
        *(at for at, _ in parsed.pages),
    }
    cuts = sorted(marks)
    parts = [personal_data.redact(parsed.text[first:last]) for first, last in pairwise(cuts)]
    moved = [0, *accumulate(map(len, parts))]

    def place(offset: int) -> int:
        return moved[bisect_right(cuts, offset) - 1]

    text = "".join(parts)
    return replace(
        parsed,
        title=personal_data.redact(parsed.title),
        text=text,
        headings=tuple(
            replace(
                heading,
                start=place(heading.start),
                end=place(heading.end),
                title=personal_data.redact(heading.title),
            )
            for heading in parsed.headings
        ),
        fences=tuple((place(first), place(last)) for first, last in parsed.fences),
        pages=tuple((place(at), number) for at, number in parsed.pages),
        metadata={
            key: personal_data.redact(value) if isinstance(value, str) else value
            for key, value in parsed.metadata.items()
        },
        redactions=_count(text) - _count(parsed.text),
    )


def _count(text: str) -> int:
    return sum(1 for _ in _PLACEHOLDER.finditer(text))
