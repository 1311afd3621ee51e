# SPDX-License-Identifier: Apache-2.0
"""Which documents an answer rests on, judged by the words they share. Pure; called by `responses.py`.

The model is not asked to cite: small ones can't. Of the passages it was given, those are cited that hold nearly as many
of the answer's content words as the best one does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lateen_serving.rag.passages import Passage

_KEEP = 0.6
"""A passage counts when it supports at least this share of what the best one supports."""

_WORD = re.compile(r"\w+")
# Punctuation is tried from the begin of its run only: from each of its places the time would grow with the square.
_SENTENCE = re.compile(r"\S.*?(?:(?<![.!?…])[.!?…]+(?=\s|$)|\n|$)", re.DOTALL)
_STOP_WORDS_TEXT = """
a about after all also an and any are as at be been before but by can could did do does for from had has have how i if in
into is it its may more most must no not of on one only or other our out over s should so some such t than that the their
them then there these they this to under up was we were what when where which who why will with would you your
"""
_STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())


@dataclass(frozen=True)
class Citation:
    """A document an answer rests on."""

    index: int
    """Position in the answer, in characters, after which the citation belongs."""

    passage: Passage
    """The passage of it that says so: where it is in the document, and where that came from."""

    @property
    def file_id(self) -> str:
        """Id of the document."""
        return self.passage.file_id


@dataclass(frozen=True)
class _Sentence:
    end: int
    words: frozenset[str]


def cite(answer: str, passages: Sequence[Passage]) -> list[Citation]:
    """The documents `answer` rests on, once each, best supported first.

    `passages` are what the model was given, best first. Where no words are shared the first passage's document is
    cited; an empty answer rests on nothing.
    """
    if not answer.strip() or not passages:
        return []
    words = _content_words(answer)
    scored = [(_support(words, passage), passage) for passage in passages]
    best = max(score for score, _ in scored)
    if best == 0:
        return [_citation(len(answer.rstrip()), passages[0])]
    kept = [item for item in scored if item[0] >= _KEEP * best]
    kept.sort(key=lambda item: item[0], reverse=True)
    sentences = _sentences(answer)
    citations: dict[str, Citation] = {}
    for _, passage in kept:
        citation = _citation(_position(sentences, passage), passage)
        citations.setdefault(passage.document_id, citation)
    return list(citations.values())


def _citation(position: int, passage: Passage) -> Citation:
    return Citation(position, passage)


def _content_words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold())) - _STOP_WORDS


def _passage_words(passage: Passage) -> frozenset[str]:
    return _content_words(f"{passage.heading} {passage.text}")


def _support(answer_words: frozenset[str], passage: Passage) -> float:
    return len(answer_words & _passage_words(passage)) / len(answer_words) if answer_words else 0.0


def _sentences(answer: str) -> list[_Sentence]:
    found = []
    for match in _SENTENCE.finditer(answer):
        text = match.group().rstrip()
        found.append(_Sentence(match.start() + len(text), _content_words(text)))
    return found


def _position(sentences: Sequence[_Sentence], passage: Passage) -> int:
    """End of the sentence that shares the most words with `passage`, the earliest of equals."""
    words = _passage_words(passage)
    return max(sentences, key=lambda sentence: len(sentence.words & words)).end
