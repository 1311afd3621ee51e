# SPDX-License-Identifier: Apache-2.0
"""Post-processing of a prompt's rendered messages: an ordered list of steps, each pure. Called by the renderer."""

import re
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from lateen_api.prompts.personal_data import redact

_LINE_END = re.compile("\r\n|[\r\u2028\u2029]")
_BLANKS = re.compile(r"[^\S\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_HIDDEN = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]")
"""What shows nothing, yet reaches the model or turns the reading direction. Joiners stay: emoji and scripts need them."""


def collapse_whitespace(text: str) -> str:
    """Each run of blanks as one space, each run of empty lines as one, none at either end."""
    lines: list[str] = []
    for line in text.splitlines():
        folded = " ".join(line.split())
        if folded or (lines and lines[-1]):
            lines.append(folded)
    if lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines)


def normalize_unicode(text: str) -> str:
    """The text in Unicode's form NFC, with line feeds as line ends and without hidden characters.

    NFC makes equal what is the same character; NFKC would also make `x²` `x2` and change what a text says. Hidden
    characters are zero-width spaces, marks and overrides of direction, byte order marks and tag characters.
    """
    return unicodedata.normalize("NFC", _HIDDEN.sub("", _LINE_END.sub("\n", text)))


def first_lines(text: str, count: int) -> str:
    """At most the first `count` lines."""
    return "\n".join(text.split("\n", count)[:count])


def before_redaction(steps: Sequence[str]) -> list[Callable[[str], str]] | None:
    """What to do with each value so that in it is found what `RedactPII` would find in the rendered message, the redaction
    included; None where the steps have none. What happens to the message afterwards is not anticipated.
    """
    if "RedactPII" not in steps:
        return None
    earlier = steps[: steps.index("RedactPII")]
    return [*(_OF_VALUES[step] for step in earlier if step in _OF_VALUES), redact]


def _one_blank(text: str) -> str:
    return _BLANKS.sub(" ", text)


def _same_characters(text: str) -> str:
    return unicodedata.normalize("NFC", _HIDDEN.sub("", text))


_OF_VALUES: Mapping[str, Callable[[str], str]] = {
    "NormalizeUnicode": _same_characters,
    "CollapseWhitespace": _one_blank,
}
"""What the steps do within a line, for values. Where lines begin and end is left to the steps themselves: no personal data
goes over the end of a line.
"""

_TEXT_STEPS: Mapping[str, Callable[[str], str]] = {
    "Dedent": textwrap.dedent,
    "Strip": str.strip,
    "CollapseWhitespace": collapse_whitespace,
    "NormalizeUnicode": normalize_unicode,
    "RedactPII": redact,
}


def apply(texts: Sequence[str], steps: Sequence[str]) -> list[str | None]:
    """The messages' texts after all steps, in their order.

    Args:
        texts: What the messages say, rendered.
        steps: Steps as a PromptTemplate names them, such as `Strip` or `MaxLines(40)`.

    Returns:
        For each message its text; None for one that `RemoveEmptyMessages` has removed.

    """
    result: list[str | None] = list(texts)
    for step in steps:
        if step == "RemoveEmptyMessages":
            result = [text if text is not None and text.strip() else None for text in result]
        else:
            change = _change(step)
            result = [None if text is None else change(text) for text in result]
    return result


def _change(step: str) -> Callable[[str], str]:
    if step.startswith("MaxLines("):
        count = int(step.removeprefix("MaxLines(").removesuffix(")"))
        return lambda text: first_lines(text, count)
    return _TEXT_STEPS[step]
