"""How texts become batches: documents, tokens, padded or packed rows."""

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_qsgd.argument_checks import require_at_least
from lightning_qsgd.llm.cache import cached, key_of
from lightning_qsgd.llm.loss import IGNORED
from lightning_qsgd.llm.problems import DATE, Problem, prompt_and_answer


def document_mask(documents: Tensor) -> Tensor:
    """Say which tokens each token attends to: those before it in its own document, and itself.

    Args:
        documents: Number of the document of each token, int64, shape (batch, length).

    Returns:
        Query by key, bool, shape (batch, 1, length, length).

    Example:
        >>> document_mask(torch.tensor([[0, 0, 1]])).int().tolist()
        [[[[1, 0, 0], [1, 1, 0], [0, 0, 1]]]]
    """
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same.tril()


def document_positions(documents: Tensor) -> Tensor:
    """Number the tokens of each document from 0.

    Args:
        documents: Number of the document of each token, int64, shape (batch, length); the tokens
            of a document stand together.

    Returns:
        Positions, int64, shape (batch, length).

    Example:
        >>> document_positions(torch.tensor([[0, 0, 0, 1, 1, -1]])).tolist()
        [[0, 1, 2, 0, 1, 0]]
    """
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - torch.where(begins, places, 0).cummax(dim=1).values


def split_documents(batch: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Take a batch apart into what is read and what is to be written.

    Args:
        batch: A batch of a layout.

    Returns:
        Prompt and answer of each document, row by row; int64, shapes (prompt length,) and (answer
        length,).

    Example:
        >>> batch = {"tokens": torch.tensor([[4, 5, 6, 0]]),
        ...          "labels": torch.tensor([[IGNORED, 5, 6, IGNORED]])}
        >>> [(prompt.tolist(), answer.tolist()) for prompt, answer in split_documents(batch)]
        [([4], [5, 6])]
    """
    documents = batch.get("documents", torch.zeros_like(batch["tokens"]))
    pairs = []
    for tokens, labels, numbers in zip(batch["tokens"], batch["labels"], documents, strict=True):
        for number in range(int(numbers.max()) + 1):
            own, wanted = tokens[numbers == number], labels[numbers == number]
            counted = wanted != IGNORED
            begin = int(counted.int().argmax())
            pairs.append((own[:begin], wanted[counted]))
    return pairs


FORMAT = "2"
"""Changed whenever the same problems give other tokens or another file."""


class Example(NamedTuple):
    """Hold the tokens of one problem.

    Args:
        tokens: Prompt and answer, integers, shape (length,).
        prompt_length: How many of them are the prompt.
    """

    tokens: Tensor
    prompt_length: int


def tokenise(problems: Sequence[Problem], tokenizer: Any) -> list[Example]:
    """Tokenise problems, or take their tokens from the cache.

    The cache's key is a hash of the problems and of the whole tokenizer, chat template and special
    tokens included.

    Args:
        problems: The problems.
        tokenizer: A fast tokenizer of transformers.

    Returns:
        One example per problem, in their order.
    """
    if not problems:
        return []
    # Which token ends an answer is known to the tokenizer alone, not to its backend.
    own = (tokenizer.chat_template, tokenizer.special_tokens_map, tokenizer.split_special_tokens)
    settings = (FORMAT, DATE, tokenizer.backend_tokenizer.to_str(), *map(str, own))
    key = key_of(*settings, *(text for problem in problems for text in problem))
    stored = cached(f"tokens-{key}.pt", lambda: _pack(_tokenise(problems, tokenizer)))
    return _unpack(stored)


def _tokenise(problems: Sequence[Problem], tokenizer: Any) -> list[Example]:
    texts = [prompt_and_answer(tokenizer, problem) for problem in problems]
    # The two are tokenised apart, so that their border is that of two tokens.
    prompts, answers = (
        tokenizer(list(part), add_special_tokens=False, verbose=False)["input_ids"]
        for part in zip(*texts, strict=True)
    )
    return [
        Example(torch.tensor(prompt + answer, dtype=torch.int32), len(prompt))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _pack(examples: list[Example]) -> bytes:
    file = io.BytesIO()
    tokens = [example.tokens for example in examples]
    lengths = torch.tensor([len(own) for own in tokens])
    prompts = torch.tensor([example.prompt_length for example in examples])
    torch.save({"tokens": torch.cat(tokens), "lengths": lengths, "prompts": prompts}, file)
    return file.getvalue()


def _unpack(content: bytes) -> list[Example]:
    stored = torch.load(io.BytesIO(content), weights_only=True)
    parts = stored["tokens"].split(stored["lengths"].tolist())
    return [Example(*pair) for pair in zip(parts, stored["prompts"].tolist(), strict=True)]


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
