# SPDX-License-Identifier: Apache-2.0
"""Knows the documents that are indexed by their text, and finds those a new one repeats. Pure; called by `sync.py`.

Near duplicates are looked for among documents that agree in a whole band of their signatures: two that share nine tenths of
their text do with a probability of 0.9999, two that share half of it with 0.64; the signatures then decide.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lateen_serving.rag.parsing.similarity import similarity

BAND = 16
"""Bytes of a band: four values, so that a signature has sixteen of them."""


@dataclass(frozen=True)
class Fingerprint:
    """What a document's text is known by."""

    digest: str
    """Hash of the text."""

    signature: bytes = b""
    """See `similarity.py`; empty where near duplicates are kept, and for short texts."""


class Known:
    """The documents that are indexed."""

    def __init__(self, least: float) -> None:
        """`least`: how similar, 0 to 1, documents must be to count as near duplicates."""
        self._least = least
        self._exact: dict[str, str] = {}
        self._signatures: dict[str, bytes] = {}
        self._bands: dict[tuple[int, bytes], list[str]] = {}

    def add(self, document_id: str, fingerprint: Fingerprint) -> None:
        """Remember an indexed document."""
        self._exact.setdefault(fingerprint.digest, document_id)
        if fingerprint.signature:
            self._signatures[document_id] = fingerprint.signature
            for band in _bands(fingerprint.signature):
                self._bands.setdefault(band, []).append(document_id)

    def same(self, fingerprint: Fingerprint) -> str:
        """The document with exactly this text; empty if there is none."""
        return self._exact.get(fingerprint.digest, "")

    def like(self, fingerprint: Fingerprint) -> str:
        """The document most like this one, if it is like enough; empty if there is none."""
        if not fingerprint.signature:
            return ""
        found = {key for band in _bands(fingerprint.signature) for key in self._bands.get(band, ())}
        scored = [(-similarity(fingerprint.signature, self._signatures[key]), key) for key in found]
        score, key = min(scored, default=(0.0, ""))
        return key if -score >= self._least else ""


def _bands(signature: bytes) -> Iterator[tuple[int, bytes]]:
    return ((at, signature[at : at + BAND]) for at in range(0, len(signature), BAND))
