# SPDX-License-Identifier: Apache-2.0
"""Finds the definitions in source code: headings of its outline. Pure; used by `parsing/plain.py`.

Python is parsed; in other languages a line counts that looks like the beginning of a definition, and its indentation is its
level. A definition begins with the comments and decorators right above it.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from itertools import accumulate

from lateen_serving.rag.outline import Heading

_MODIFIERS = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|override|virtual|inline|"
    r"unsafe|sealed|partial|data|open|pub(?:\([a-z]+\))?|const|extern|declare|local)\s+)*"
)
_KEYWORDS = (
    r"(?:func|fn|fun|function\*?|def|defp|defmodule|sub|class|interface|struct|enum|trait|impl|record|object|protocol|"
    r"extension|module|namespace|package|message|service|rpc|type|union|macro_rules!|resource|variable|"
    r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|FUNCTION|PROCEDURE|TRIGGER|INDEX))"
)
_NAMED = re.compile(
    rf"(?P<indent>[ \t]*){_MODIFIERS}{_KEYWORDS}(?:\s*\([^()]{{0,200}}\))?(?:<[^<>]{{0,200}}>)?\s+(?P<name>[\w$.:\"-]{{1,120}})",
    re.IGNORECASE,
)
_CALLABLE = re.compile(
    r"(?P<indent>[ \t]*)(?:[\w<>\[\],:*&?.]{1,80}\s+){1,6}[*&]?(?P<name>[\w:~]{1,120})\s*\([^;=]{0,300}\)?[^;=]{0,80}\{\s*$"
)
_SHELL = re.compile(r"(?P<indent>)(?P<name>[\w-]{1,120})\s*\(\)\s*\{?\s*$")
_ARROW = re.compile(
    r"(?P<indent>[ \t]*)(?:export\s+)?(?:const|let|var)\s+(?P<name>[\w$]{1,120})\s*=\s*(?:async\s*)?\(?[^=]{0,200}=>"
)
_STATEMENTS = frozenset(
    [
        "if",
        "for",
        "while",
        "switch",
        "return",
        "else",
        "catch",
        "do",
        "try",
        "with",
        "using",
        "lock",
        "elif",
        "when",
        "match",
        "new",
        "throw",
    ]
)
_ABOVE = re.compile(r"\s*(?:#|//|/\*|\*|@|--|\[<?\w)")
_TAB = 4
_LONGEST_LINE = 1000


def headings(text: str, language: str) -> tuple[Heading, ...]:
    """The definitions of source code in order, as headings of no length at the beginning of their first line."""
    lines = text.split("\n")
    offsets = [0, *accumulate(len(line) + 1 for line in lines)]
    found = _python(text) if language == "python" else None
    marks = _guessed(lines) if found is None else found
    return tuple(
        Heading(offsets[line], offsets[line], level, title) for line, level, title in _raised(marks, lines)
    )


Mark = tuple[int, int, str]
"""Line from 0, level and title of a definition; without a title: where one has ended."""


def _python(text: str) -> list[Mark] | None:
    """The definitions of Python source; None if it is not of this version of Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like are the author's business
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return list(_nested(tree.body, 1))


def _nested(body: Sequence[ast.stmt], level: int) -> Iterator[Mark]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield first - 1, level, node.name
            if isinstance(node, ast.ClassDef):
                yield from _nested(node.body, level + 1)
            yield node.end_lineno or node.lineno, level, ""


def _guessed(lines: Sequence[str]) -> Iterator[Mark]:
    for number, line in enumerate(lines):
        match = _definition(line[:_LONGEST_LINE])
        if match:
            yield number, 1 + len(match["indent"].expandtabs(_TAB)), match["name"].strip("\"':.")


def _definition(line: str) -> re.Match[str] | None:
    words = line.split(maxsplit=1)
    if not words or words[0].rstrip("({:") in _STATEMENTS:
        return None
    return _NAMED.match(line) or _ARROW.match(line) or _SHELL.match(line) or _CALLABLE.match(line)


def _raised(marks: Sequence[Mark] | Iterator[Mark], lines: Sequence[str]) -> Iterator[Mark]:
    """The marks, each before the comments right above it, in order."""
    earliest = 0
    for line, level, title in marks:
        first = line
        while title and first > earliest and _ABOVE.match(lines[first - 1]):
            first -= 1
        earliest = max(earliest, first if not title else line)
        yield max(first, 0), level, title
