"""The loss of a language model on the tokens of the answers alone."""

from torch import Tensor, nn

IGNORED = -100
"""Label of a token that is not to be learned: the question, and padding."""


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean cross-entropy of the labelled tokens, each predicted from those before it.

    Args:
        logits: Scores of the next token, float, shape (batch, length, vocabulary).
        labels: The tokens themselves where they count, `IGNORED` elsewhere; int64, shape (batch,
            length).

    Returns:
        Mean over labelled tokens in nats, float32, shape (); every token weighs the same.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[IGNORED, IGNORED, 3]])
        >>> loss = answer_loss(torch.zeros(1, 3, 8), labels)
        >>> bool(torch.isclose(loss, torch.tensor(8.0).log()))
        True
    """
    scores, wanted = logits[:, :-1].float(), labels[:, 1:]
    return nn.functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)


def num_answer_tokens(labels: Tensor) -> int:
    """Count the tokens that `answer_loss` averages over.

    Args:
        labels: As for `answer_loss`.

    Example:
        >>> import torch
        >>> num_answer_tokens(torch.tensor([[5, IGNORED, 3, 4]]))
        2
    """
    return int((labels[:, 1:] != IGNORED).sum())
