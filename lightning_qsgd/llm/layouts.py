"""Lay examples out in rows of one length: one example per row, or as many as fit."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_qsgd.argument_checks import require_at_least
from lightning_qsgd.llm.loss import IGNORED
from lightning_qsgd.llm.tokenised import Example

Batch = dict[str, Tensor]
Row = list[Example]

OPEN_ROWS = 64
"""How many unfinished rows are searched for room, so that packing takes time linear in examples."""


@dataclass(frozen=True)
class Layout(ABC):
    """Says how examples share the rows of a batch.

    Args:
        context: Tokens per row, 2 or more; every row is padded to it.

    Raises:
        ValueError: If `context` is below 2.
    """

    context: int = 2048

    def __post_init__(self) -> None:
        require_at_least("context", self.context, 2)

    @abstractmethod
    def rows(self, lengths: Sequence[int]) -> list[list[int]]:
        """Distribute examples over rows.

        Args:
            lengths: Tokens of each example, at most `context`.

        Returns:
            Numbers of the examples in each row; every example is in one row.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Row], pad_token: int) -> Batch:
        """Make the tensors of a batch.

        Args:
            rows: Examples of each row.
            pad_token: What fills the rest of a row.

        Returns:
            `tokens` and `labels`, int64, shape (batch, context); a label is its token where an
            answer is to be learned, and -100 elsewhere. What else is in it is up to the layout.
        """


class Padded(Layout):
    """One example per row, with padding behind it.

    A model that only looks back never sees the padding, so that no mask is needed.

    Example:
        >>> Padded(context=8).rows([3, 5, 2])
        [[0], [1], [2]]
    """

    def rows(self, lengths: Sequence[int]) -> list[list[int]]:
        """Give each example a row of its own."""
        return [[index] for index in range(len(lengths))]

    def collate(self, rows: Sequence[Row], pad_token: int) -> Batch:
        """Make `tokens` and `labels`."""
        parts = [_fill(row, self.context, pad_token) for row in rows]
        tokens, labels, _ = (torch.stack(column) for column in zip(*parts, strict=True))
        return {"tokens": tokens, "labels": labels}


class Packed(Layout):
    """As many examples per row as fit, none of which sees the others.

    `documents` numbers the examples of a row from 0, padding is -1: attention stays within a
    document, and positions start anew in each. The mean loss of a batch then weighs every answer
    token alike, so longer answers count more than in batches of one example.

    Example:
        >>> Packed(context=8).rows([3, 6, 5, 2])
        [[0, 2], [1, 3]]
    """

    def rows(self, lengths: Sequence[int]) -> list[list[int]]:
        """Put each example, in its order, into the first open row that has room for it."""
        rows: list[list[int]] = []
        room: list[int] = []
        for index, length in enumerate(lengths):
            first = max(0, len(rows) - OPEN_ROWS)
            place = next((n for n in range(first, len(rows)) if room[n] >= length), len(rows))
            if place == len(rows):
                rows.append([])
                room.append(self.context)
            rows[place].append(index)
            room[place] -= length
        return rows

    def collate(self, rows: Sequence[Row], pad_token: int) -> Batch:
        """Make `tokens`, `labels` and `documents`, the latter int64, shape (batch, context)."""
        parts = [_fill(row, self.context, pad_token) for row in rows]
        tokens, labels, documents = (torch.stack(column) for column in zip(*parts, strict=True))
        return {"tokens": tokens, "labels": labels, "documents": documents}


def _fill(row: Row, context: int, pad_token: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens, labels and documents of one row."""
    tokens = torch.full((context,), pad_token)
    labels = torch.full((context,), IGNORED)
    documents = torch.full((context,), -1)
    start = 0
    for number, (own, prompt_length) in enumerate(row):
        end = start + len(own)
        tokens[start:end] = own
        labels[start + prompt_length : end] = own[prompt_length:]
        documents[start:end] = number
        start = end
    return tokens, labels, documents
