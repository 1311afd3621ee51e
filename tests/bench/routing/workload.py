# SPDX-License-Identifier: Apache-2.0
"""Who asks what in the simulator: users who send the next request when they have the answer to the last one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from lateen_serving.routing import prefix


@dataclass(frozen=True)
class Segment:
    """A piece of text that is read or known as a whole."""

    id: str
    tokens: int


@dataclass(frozen=True)
class Request:
    """One request."""

    key: bytes | None
    """As `lateen_serving.routing.prefix` makes it."""
    segments: tuple[Segment, ...]
    """The prompt."""
    answer: Segment

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return sum(segment.tokens for segment in self.segments)

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer."""
        return self.answer.tokens

    def with_answer(self) -> tuple[Segment, ...]:
        """The whole text, once it is answered."""
        return (*self.segments, self.answer)


Workload = Callable[[int, Random], Iterator[Request]]
"""The endless requests of one user, by number, drawn from a generator."""


def key_of(system: str, opening: str) -> bytes | None:
    """The key of a conversation."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": opening}]
    return prefix.key({"messages": messages})


@dataclass(frozen=True)
class Chats:
    """Conversations over some system messages; each turn sends all that was said before."""

    systems: int = 32
    turns: int = 12
    system_tokens: tuple[int, int] = (400, 1200)
    question_tokens: tuple[int, int] = (20, 120)
    answer_tokens: tuple[int, int] = (32, 96)

    def __call__(self, user: int, random: Random) -> Iterator[Request]:
        """See `Workload`."""
        sizes = Random(0)  # noqa: S311 - all users have the same system messages
        systems = [Segment(f"s{n}", sizes.randint(*self.system_tokens)) for n in range(self.systems)]
        conversation = 0
        while True:
            conversation += 1
            name = f"u{user}c{conversation}"
            system = random.choice(systems)
            said: tuple[Segment, ...] = (system,)
            # Users do not all start their conversations at the same time.
            turns = random.randint(1, self.turns) if conversation == 1 else self.turns
            for turn in range(turns):
                said = (*said, Segment(f"{name}q{turn}", random.randint(*self.question_tokens)))
                answer = Segment(f"{name}a{turn}", random.randint(*self.answer_tokens))
                yield Request(key_of(system.id, name), said, answer)
                said = (*said, answer)


@dataclass(frozen=True)
class Unique:
    """Prompts that have nothing in common."""

    prompt_tokens: tuple[int, int] = (300, 900)
    answer_tokens: tuple[int, int] = (32, 96)

    def __call__(self, user: int, random: Random) -> Iterator[Request]:
        """See `Workload`."""
        number = 0
        while True:
            number += 1
            name = f"u{user}n{number}"
            prompt = Segment(name, random.randint(*self.prompt_tokens))
            answer = Segment(f"{name}a", random.randint(*self.answer_tokens))
            yield Request(key_of(name, ""), (prompt,), answer)
