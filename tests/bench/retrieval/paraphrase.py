# SPDX-License-Identifier: Apache-2.0
"""Questions whose answer is known: a distinctive sentence of a document, said in other words by rule. Pure.

The sentence is the one with the rarest words that no other document has. Of it stop words and what looks like code go,
common words become other ones (`synonyms.py`), and its clauses change places. There are two kinds of question: `named` ones use
the document's own words; `meant` ones are those of people who don't know them: words that few documents have are left out, and
few words are left, as people ask. Called by `measure.py`.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.retrieval.corpus import Item
from bench.retrieval.synonyms import STOP_WORDS, SYNONYMS

WORDS = range(9, 41)
"""Words of a sentence that may become a question."""

LEAST_LEFT = 4
"""Words of a question."""

FEW = 5
"""Documents; a word that fewer have is their own."""

SHORT = 5
"""Most words of a question that is `meant`."""

Kind = Literal["named", "meant"]

_BREAK = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n\s*\n|\n\s*[-*+>:|]")
_CLAUSE = re.compile(r"[,;:()]|\s(?=(?:if|when|unless|because|so that|which|where|while|and|but)\s)")
_PLAIN = re.compile(r"[A-Za-z][a-z]*(?:[-'][a-z]+)*")
_SYMBOLS = re.compile(r"[=<>{}\[\]`|\\/@#$%^&*~+]|::|>>>|\.\.|__")


@dataclass(frozen=True)
class Question:
    """What is asked, and the path of the document that says it."""

    text: str
    path: str


def questions(items: Sequence[Item], count: int, split: str, kind: Kind = "named") -> list[Question]:
    """`count` questions of one kind about documents by chance, the same ones each time; different `split`s share no document.

    Splits are `tune` and `report`: what is chosen on one can be measured on the other.
    """
    counts = Counter(word for item in items for word in set(_words(item.markdown)))
    shared = Counter(key for item in items for key in {_key(sentence) for sentence in sentences(item.text)})
    own_words = {word for word, seen in counts.items() if seen < FEW} if kind == "meant" else set()
    rarity = {word: math.log(len(items) / seen) for word, seen in counts.items()}
    found: list[Question] = []
    for item in sorted(items, key=lambda each: _number(each.path)):
        if ("tune", "report")[_number(item.path) % 2] != split:
            continue
        own = [
            each for each in sentences(item.text) if shared[_key(each)] == 1 and _asked(each, kind, own_words)
        ]
        if own:
            rarest = max(own, key=lambda each: _rarity(each, rarity))
            found.append(Question(_asked(rarest, kind, own_words), item.path))
        if len(found) == count:
            break
    return found


def _asked(sentence: str, kind: Kind, own_words: Container[str]) -> str:
    if kind == "named":
        return paraphrased(sentence)
    return " ".join(paraphrased(sentence, own_words).split()[:SHORT])


def sentences(text: str) -> Iterator[str]:
    """Those of prose: long enough, and not code."""
    for part in _BREAK.split(text):
        sentence = " ".join(part.split())
        if len(sentence.split()) in WORDS and len(_SYMBOLS.findall(sentence)) <= 1:
            yield sentence


def paraphrased(sentence: str, left_out: Container[str] = ()) -> str:
    """The sentence in other words, without those `left_out`; empty if too little of it is left."""
    parts = (_other_words(clause, left_out) for clause in _CLAUSE.split(sentence))
    clauses = [clause for clause in parts if clause]
    turned = clauses[1:] + clauses[:1]
    words = [word for clause in turned for word in clause]
    return " ".join(words) if len(words) >= LEAST_LEFT else ""


def _other_words(clause: str, left_out: Container[str]) -> list[str]:
    kept = (word.strip(".!?\"'") for word in clause.split())
    plain = (word.lower() for word in kept if _PLAIN.fullmatch(word))
    return [SYNONYMS.get(word, word) for word in plain if word not in STOP_WORDS and word not in left_out]


def _rarity(sentence: str, rarity: Mapping[str, float]) -> float:
    """Of the words of a sentence, in the mean."""
    words = [word for word in _words(sentence) if word not in STOP_WORDS]
    return sum(rarity.get(word, 0.0) for word in words) / max(len(words), 1)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _key(sentence: str) -> str:
    return " ".join(_words(sentence))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"split {text}".encode()).digest()[:8])
