"""Let a model write its answers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lightning_qsgd.argument_checks import require_at_least


@dataclass(frozen=True)
class Generation:
    """Says how many problems are solved at each evaluation, and how long answers may get.

    Args:
        examples: Problems per evaluation and process, the first ones; 1 or more.
        max_new_tokens: Where an answer is cut off, 1 or more; one cut off before its `#### n` is
            wrong.

    Raises:
        ValueError: If an argument is below 1.

    Example:
        >>> Generation(examples=8).max_new_tokens
        256
    """

    examples: int = 32
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        require_at_least("examples", self.examples, 1)
        require_at_least("max_new_tokens", self.max_new_tokens, 1)


def continue_greedily(
    model: Any, prompts: list[Tensor], max_new_tokens: int, end_token: int
) -> list[Tensor]:
    """Continue prompts with the likeliest token at each step; nothing is drawn.

    Args:
        model: A `PreTrainedModel` in evaluation mode.
        prompts: Tokens, int64, shape (length,) each.
        max_new_tokens: Tokens to write at most.
        end_token: Token that ends an answer.

    Returns:
        The new tokens of each prompt, int64, the end token and what follows it left out.
    """
    # Padding comes first: the last token of every row must be a prompt's own.
    reversed_prompts = [prompt.flip(0) for prompt in prompts]
    tokens = pad_sequence(reversed_prompts, batch_first=True, padding_value=end_token).flip(1)
    real = [torch.ones_like(prompt) for prompt in reversed_prompts]
    mask = pad_sequence(real, batch_first=True, padding_value=0).flip(1)
    written = model.generate(
        input_ids=tokens,
        attention_mask=mask,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        max_new_tokens=max_new_tokens,
        eos_token_id=end_token,
        pad_token_id=end_token,
    )
    return [_until(row[tokens.shape[1] :], end_token) for row in written]


def _until(tokens: Tensor, end_token: int) -> Tensor:
    ends = (tokens == end_token).nonzero()
    return tokens[: int(ends[0])] if len(ends) else tokens
