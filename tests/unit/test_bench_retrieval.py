# SPDX-License-Identifier: Apache-2.0
"""The known-item searches of `hack/bench`: documents, questions, scores."""

from pathlib import Path

import pytest

from bench.retrieval import corpus, paraphrase, scores
from bench.retrieval.corpus import Item
from bench.retrieval.synonyms import STOP_WORDS, SYNONYMS

COMMON = "This function returns the value of the given argument in all of the cases that matter to you."


@pytest.mark.parametrize(
    ("ranks", "at_1", "at_3", "at_10", "mrr"),
    [
        ([1, 1], 1.0, 1.0, 1.0, 1.0),
        ([1, 2, 4, None], 0.25, 0.5, 0.75, (1 + 0.5 + 0.25) / 4),
        ([3, 10], 0.0, 0.5, 1.0, (1 / 3 + 0.1) / 2),
        ([None], 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_recall_and_reciprocal_rank(
    ranks: list[int | None], at_1: float, at_3: float, at_10: float, mrr: float
) -> None:
    """What was not found counts against both."""
    expected = {"recall_1": at_1, "recall_3": at_3, "recall_10": at_10, "mrr": mrr}
    assert scores.summary(ranks) == pytest.approx(expected)


def test_rank_counts_documents_not_passages() -> None:
    """Several passages of one document take one place."""
    assert scores.rank(["a", "a", "b", "a", "c"], "c") == 3
    assert scores.rank(["a", "b"], "c") is None
    assert scores.rank([], "c") is None


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("If the socket is closed, the pending transfer raises an error.", "pending transfer throws failure socket closed"),
        ("Return a list of the installed codecs.", "give back sequence installed codecs"),
        ("Calls `os.fsync()` and then renames the journal atomically.", "renames journal atomically invokes"),
        ("It is what it was.", ""),
    ],
)  # fmt: skip
def test_paraphrased(sentence: str, expected: str) -> None:
    """Clauses change places, common words become others, stop words and code go."""
    assert paraphrase.paraphrased(sentence) == expected


def test_synonyms_are_other_words() -> None:
    """Nothing is replaced by itself, and stop words are not in the table."""
    assert all(word != other for word, other in SYNONYMS.items())
    assert not STOP_WORDS & SYNONYMS.keys()


def test_question_is_the_rarest_sentence_that_only_its_document_has() -> None:
    """Neither what two documents share nor the common sentence is asked."""
    shared = "A zymurgist ferments quixotic xylophones under nocturnal vaulted obsidian archways daily."
    own = [
        f"The {each}stone {each}glow and {each}moss cover seventeen ancient willow trees."
        for each in "abcdef"
    ]
    items = [
        Item(f"{at}.md", "t", f"{COMMON[:-1]} {at * 'x'}. {shared} {text}") for at, text in enumerate(own)
    ]
    asked = [each for split in ("tune", "report") for each in paraphrase.questions(items, 9, split)]
    assert len(asked) == len(items)
    assert all(f"{'abcdef'[int(each.path[0])]}stone" in each.text for each in asked)


def test_splits_share_no_document_and_repeat() -> None:
    """What defaults are chosen by is never what is reported."""
    items = [
        Item(
            f"{at}.md",
            "t",
            f"Every walrus number{at * 'q'}x collects rather unusual seashells near harbours.",
        )
        for at in range(60)
    ]
    tune, report = (paraphrase.questions(items, 100, split) for split in ("tune", "report"))
    assert {each.path for each in tune} | {each.path for each in report} == {item.path for item in items}
    assert len(tune) + len(report) == len(items)
    assert paraphrase.questions(list(reversed(items)), 100, "report") == report


def test_docstrings_become_documents(tmp_path: Path) -> None:
    """Long docstrings of modules, classes and functions, named by where they stand; broken files and tests don't."""
    long = "Says something that takes quite a number of words to be said, and then says it again. " * 4
    (tmp_path / "pkg" / "tests").mkdir(parents=True)
    (tmp_path / "pkg" / "__init__.py").write_text(f'"""{long}1"""\n')
    (tmp_path / "pkg" / "one.py").write_text(
        f'class A:\n    """{long}2"""\n    def f(self):\n        """{long}3"""\n    def g(self):\n        """Short."""\n'
    )
    (tmp_path / "pkg" / "broken.py").write_text("def (")
    (tmp_path / "pkg" / "tests" / "t.py").write_text(f'"""{long}4"""\n')
    found = list(corpus.docstrings(tmp_path, "here"))
    assert [item.title for item in found] == ["pkg", "pkg.one.A", "pkg.one.A.f"]
    assert len({item.path for item in found}) == 3
    assert found[0].path.startswith("here/pkg-")
    assert found[2].markdown.startswith("# pkg.one.A.f\n\nSays something")


def test_questions_that_are_meant_have_few_words_and_none_of_the_documents_own() -> None:
    """Words of one document alone are left out, and no more than five are asked with."""
    items = [
        Item(
            f"{at}.md",
            "t",
            f"Every {word}walrus number {word}x collects unusual purple seashells near harbours.",
        )
        for at, word in enumerate("abcdefgh")
    ]
    for split in ("tune", "report"):
        named = paraphrase.questions(items, 9, split)
        meant = paraphrase.questions(items, 9, split, "meant")
        assert [each.path for each in named] == [each.path for each in meant]
        assert all("walrus" in each.text for each in named)
        assert {each.text for each in meant} <= {"every count collects unusual purple"}
