# SPDX-License-Identifier: Apache-2.0
"""What a robots.txt allows (RFC 9309). Pure; called by `pages.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

AGENT = "lateen"
MAX_BYTES = 512 * 2**10
"""Of a robots.txt; what is beyond is not looked at."""

_MAX_RULES = 5000
_MAX_DELAY = 10.0
"""Seconds of a `Crawl-delay` that are obeyed."""


@dataclass(frozen=True)
class Robots:
    """The rules that concern us."""

    rules: Sequence[tuple[str, bool]] = ()
    """Pattern and whether it allows."""

    delay: float = 0.0
    """Seconds between two requests."""

    def allows(self, path: str) -> bool:
        """Whether the page at `path` (with its query) may be asked for; the longest pattern that fits decides."""
        plain = unquote(path) or "/"
        fitting = [(len(pattern), allowed) for pattern, allowed in self.rules if fits(plain, pattern)]
        return max(fitting, default=(0, True))[1]


def parse(text: str) -> Robots:
    """The rules of the groups that name us, else of those for everybody."""
    own: list[tuple[str, str]] | None = None
    everybody: list[tuple[str, str]] = []
    for agents, lines in _groups(text):
        if AGENT in agents:
            own = [*(own or ()), *lines]
        elif "*" in agents:
            everybody += lines
    lines = everybody if own is None else own
    rules = [(unquote(value), field == "allow") for field, value in lines if field != "crawl-delay" and value]
    delays = [_seconds(value) for field, value in lines if field == "crawl-delay"]
    return Robots(rules[:_MAX_RULES], max(delays, default=0.0))


def _groups(text: str) -> Iterator[tuple[set[str], list[tuple[str, str]]]]:
    """Agents, in lower case, and lines of each group."""
    agents: set[str] = set()
    lines: list[tuple[str, str]] = []
    for line in text.splitlines():
        field, colon, value = line.partition("#")[0].partition(":")
        name, value = field.strip().lower(), value.strip()
        if not colon:
            continue
        if name == "user-agent":
            if lines:
                yield agents, lines
                agents, lines = set(), []
            agents.add(value.lower().partition("/")[0])
        elif name in {"allow", "disallow", "crawl-delay"} and agents:
            lines.append((name, value))
    yield agents, lines


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.0), _MAX_DELAY)
    except ValueError:
        return 0.0


def fits(path: str, pattern: str) -> bool:
    """Whether `path` begins with `pattern`, in which `*` is any text and `$` at the end means the path's end.

    Takes time proportional to the path for each part between stars: no pattern is slow.
    """
    anchored = pattern.endswith("$")
    first, *parts = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if anchored and not parts:
        return at == len(path)
    for number, part in enumerate(parts):
        if anchored and number == len(parts) - 1:
            return path.endswith(part) and len(path) - len(part) >= at
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True
