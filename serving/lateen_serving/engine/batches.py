# SPDX-License-Identifier: Apache-2.0
"""Rows that go through the model together: first their prompts are read, then they are answered.

Used by `scheduler.py` in the torch thread. What fails here leaves the state half changed: its rows must be read anew.
"""

from dataclasses import dataclass

import torch

from lateen_serving.engine import decoder
from lateen_serving.engine.decoder import Decoder, State
from lateen_serving.engine.rows import Row


@dataclass
class Batch:
    """Rows that are answered together."""

    rows: list[Row]
    state: State

    def keep(self, kept: list[int]) -> None:
        """Drop all rows but those at these indexes, at least one."""
        decoder.keep_rows(self.state, kept)
        self.rows = [self.rows[index] for index in kept]


@dataclass
class Prefill:
    """Rows whose prompts are being read together, padded on the left."""

    rows: list[Row]
    ids: torch.Tensor
    """(rows, columns): everything to be read."""
    mask: torch.Tensor
    """(rows, columns): 1 for tokens, 0 for padding."""
    state: State
    """What has been read of it."""

    @classmethod
    def of(cls, rows: list[Row], model: Decoder) -> "Prefill":
        """Of these rows nothing has been read."""
        width = max(row.length for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, width - row.length :] = torch.tensor(row.tokens)
            mask[index, width - row.length :] = 1
        state = model.empty(len(rows), padded=not bool(mask.all()))
        return cls(rows, ids.to(model.device), mask.to(model.device), state)

    @property
    def done(self) -> int:
        """Columns read so far."""
        return self.state.length

    @property
    def width(self) -> int:
        """Columns to be read altogether."""
        return self.ids.shape[1]

    def keep(self, kept: list[int]) -> None:
        """Drop all rows but those at these indexes, at least one, and what only the others had to read."""
        index = torch.tensor(kept, dtype=torch.long, device=self.ids.device)
        mask = self.mask.index_select(0, index)
        lead = int(mask.argmax(dim=1).min())
        self.ids = self.ids.index_select(0, index)[:, lead:]
        self.mask = mask[:, lead:]
        if lead >= self.done:  # nothing of these rows has been read yet
            self.state = State(self.mask[:, :0], padded=not bool(self.mask.all()))
        else:
            decoder.keep_rows(self.state, kept)
        self.rows = [self.rows[at] for at in kept]
