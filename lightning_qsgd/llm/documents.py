"""What a model may see where several documents share a row."""

import torch
from torch import Tensor

from lightning_qsgd.llm.loss import IGNORED


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
