# SPDX-License-Identifier: Apache-2.0
"""Reads a file and does what the pipeline of the index asks for before anything is cut or compared. Pure."""

import hashlib
from dataclasses import dataclass, replace

from lateen_api.rag_index import Pipeline
from lateen_serving.rag.parsing import reading, redacting, similarity
from lateen_serving.rag.parsing.parsed import Parsed, Raw


@dataclass(frozen=True)
class Preparation:
    """Called with a file; raises what `reading.parse` raises."""

    pipeline: Pipeline

    def __call__(self, raw: Raw) -> Parsed:
        """The document, redacted if asked for, with what duplicates are known by."""
        parsed = reading.parse(raw)
        if self.pipeline.redact_personal_data:
            parsed = redacting.redacted(parsed)
        near = self.pipeline.duplicates == "RemoveNear"
        return replace(
            parsed,
            digest=hashlib.sha256(parsed.text.encode()).hexdigest(),
            signature=similarity.signature(parsed.text) if near else b"",
        )
