# SPDX-License-Identifier: Apache-2.0
"""Tells the language a text is written in. Called by `reading.py`; the model comes with py3langid, nothing is fetched."""

import functools
import re

from py3langid.langid import MODEL_FILE, LanguageIdentifier

_SAMPLE = 4_000
"""Characters looked at."""

_LEAST_LETTERS = 40
"""Of fewer letters any answer is a guess."""

_LEAST_CONFIDENCE = 0.8
_LETTER = re.compile(r"[^\W\d_]")


def of(text: str) -> str:
    """ISO 639-1 code of the language of `text`; empty where there is too little of it or the answer is not clear."""
    sample = text[:_SAMPLE]
    if len(_LETTER.findall(sample)) < _LEAST_LETTERS:
        return ""
    language, confidence = _identifier().classify(sample)
    return str(language) if confidence >= _LEAST_CONFIDENCE else ""


def load() -> None:
    """Load the model, so that the first document does not wait for it."""
    _identifier()


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
