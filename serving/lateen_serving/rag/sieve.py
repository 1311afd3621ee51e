# SPDX-License-Identifier: Apache-2.0
"""Decides which documents are worth indexing: neither too short nor repeating another. Pure; called by `sync.py`."""

import base64
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from lateen_api.index_build import PipelineCounts
from lateen_api.rag_index import Pipeline
from lateen_serving.rag.cutting import Content
from lateen_serving.rag.duplicates import Fingerprint, Known
from lateen_serving.rag.protocol import Entry, Facts


class Sieve:
    """Judges documents one after the other; each is compared with those let through before it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._known = Known(float(pipeline.near_duplicate_similarity))

    def remember(self, entries: Iterable[Entry]) -> None:
        """Compare with documents that are indexed already."""
        for entry in entries:
            if entry.facts.fate == "Indexed" and entry.facts.digest:
                signature = base64.b64decode(entry.facts.signature)
                self._known.add(entry.document_id, Fingerprint(entry.facts.digest, signature))

    def judge(self, content: Content) -> Facts:
        """What becomes of a document and why."""
        parsed = content.parsed
        facts = Facts(
            digest=parsed.digest,
            signature=base64.b64encode(parsed.signature).decode(),
            redactions=parsed.redactions,
            repaired=parsed.repaired,
        )
        least = self._pipeline.min_characters
        if _letters(parsed.text, least) < least:
            return replace(facts, fate="TooShort")
        fingerprint = Fingerprint(parsed.digest, parsed.signature)
        if self._pipeline.duplicates != "Keep":
            if original := self._known.same(fingerprint):
                return replace(facts, fate="Duplicate", original=original)
            if original := self._known.like(fingerprint):
                return replace(facts, fate="NearDuplicate", original=original)
        self._known.add(content.document.id, fingerprint)
        return facts


def counts(entries: Iterable[Entry]) -> PipelineCounts:
    """What the pipeline did to the documents of a ledger."""
    facts = [entry.facts for entry in entries]
    fates = [fact.fate for fact in facts]
    indexed = [fact for fact in facts if fact.fate == "Indexed"]
    return PipelineCounts(
        duplicates=fates.count("Duplicate"),
        near_duplicates=fates.count("NearDuplicate"),
        too_short=fates.count("TooShort"),
        redactions=sum(fact.redactions for fact in indexed),
        repaired=sum(fact.repaired for fact in indexed),
    )


def _letters(text: str, enough: int) -> int:
    """Letters and digits of `text`, counted up to `enough`."""
    return sum(1 for _ in islice(filter(str.isalnum, text), enough))
