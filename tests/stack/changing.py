# SPDX-License-Identifier: Apache-2.0
"""A folder of documents that change, and the proof that an index holds just what the folder does."""

import random
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stack import tiny
from stack.parts import Weaviate

MARK = re.compile(r"\bm\d{3}v\d+s\d+\b")
NEAREST = 10


@dataclass(frozen=True)
class Page:
    """What is in one document: sentences, each with a word that no other sentence of any time has."""

    number: int
    version: int
    sentences: tuple[str, ...]

    @property
    def marks(self) -> frozenset[str]:
        """Those words."""
        return frozenset(MARK.findall(" ".join(self.sentences)))


@dataclass
class Folder:
    """Documents of a source `files`, as they are now."""

    place: Path
    dice: random.Random
    pages: dict[str, Page] = field(default_factory=dict)
    """By file name."""
    written: int = 0
    """Pages so far."""

    def add(self, count: int) -> None:
        """Write new documents."""
        self.place.mkdir(parents=True, exist_ok=True)
        for number in range(self.written, self.written + count):
            self._write(f"page-{number:03}.md", self._page(number, 1))
        self.written += count

    def change(self) -> None:
        """Edit every other document; delete some, rename some, add some."""
        names = sorted(self.pages)
        self.dice.shuffle(names)
        tenth = len(names) // 10
        for name in names[:tenth]:
            self._remove(name)
        for name in names[tenth : 2 * tenth]:
            self._write(f"renamed-{name}", self._remove(name))
        for name in names[len(names) // 2 :]:
            before = self.pages[name]
            self._write(name, self._page(before.number, before.version + 1))
        self.add(tenth)

    def _page(self, number: int, version: int) -> Page:
        words = tiny.WORDS.split()
        sentences = (
            f"The {' '.join(self.dice.choices(words, k=7))} m{number:03}v{version}s{sentence}."
            for sentence in range(self.dice.randint(1, 12))
        )
        return Page(number, version, tuple(sentences))

    def _write(self, name: str, page: Page) -> None:
        self.pages[name] = page
        (self.place / name).write_text(f"# Page {page.number}\n\n" + "\n\n".join(page.sentences))

    def _remove(self, name: str) -> Page:
        (self.place / name).unlink()
        return self.pages.pop(name)


def expect_just(folder: Folder, weaviate: Weaviate, collection: str, chunks: int) -> None:
    """Every sentence of the folder is in the collection, in `chunks` passages: none twice, none of an earlier time."""
    found: dict[str, list[dict[str, object]]] = defaultdict(list)
    for entry in weaviate.passages(collection):
        found[str(entry["properties"]["document_id"])].append(entry["properties"])
    assert set(found) == {f"files/{name}" for name in folder.pages}
    for name, page in folder.pages.items():
        passages = found[f"files/{name}"]
        text = " ".join(str(passage["text"]) for passage in passages)
        assert frozenset(MARK.findall(text)) == page.marks, f"{name} is not what was written last"
        positions = sorted(int(str(passage["position"])) for passage in passages)
        assert positions == list(range(len(passages))), f"{name} has passages twice or lacks some"
    assert sum(map(len, found.values())) == weaviate.count(collection) == chunks


def recall(weaviate: Weaviate, collection: str) -> float:
    """Share of each passage's nearest that the vector index finds, by comparison with all vectors."""
    passages = weaviate.passages(collection)
    matrix = np.array([entry["vectors"]["default"] for entry in passages], dtype=np.float64)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    distances = 1.0 - matrix @ matrix.T
    shares = []
    for entry, row in zip(passages, distances, strict=True):
        vector = ", ".join(map(str, entry["vectors"]["default"]))
        near = weaviate.find(collection, f'nearVector: {{vector: [{vector}], targetVectors: ["default"]}}')
        farthest = np.sort(row)[NEAREST - 1] + 1e-4  # two as far as each other are as good as each other
        shares.append(sum(distance <= farthest for _, distance in near) / NEAREST)
    return float(np.mean(shares))
