"""Answers of a model: generated, parsed, and compared with the data's."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchmetrics import Metric

from lightning_qsgd.argument_checks import require_at_least

MARK = "####"
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?![0-9/:])")


def final_answer(text: str) -> str | None:
    """Return the number after the first `####`, in a form in which equal numbers are equal.

    Commas, `$`, signs of plus and trailing zeros do not count. The first mark is meant, since a
    model that does not stop goes on to invent a next problem with an answer of its own.

    Args:
        text: A worked solution, or what a model wrote.

    Returns:
        The number without an exponent, or None if no number follows a mark.

    Example:
        >>> final_answer("He pays 3 * 400 = 1200. #### $1,200.00"), final_answer("#### -0.50")
        ('1200', '-0.5')
        >>> final_answer("The answer is 12.") is None
        True
    """
    _, mark, rest = text.partition(MARK)
    line = rest.strip().split("\n")[0] if mark else ""
    found = NUMBER.match(re.sub(r"[$,\s]", "", line))
    if found is None:
        return None
    number = Decimal(found.group())
    if not number:
        return "0"
    # `normalize` would round to the 28 digits of decimal's context.
    digits = format(number, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def is_exact_match(generated: str, expected: str) -> bool:
    """Tell whether a generated solution ends in the expected number.

    Args:
        generated: What a model wrote.
        expected: The worked solution of the set.

    Returns:
        False where either holds no final answer.

    Example:
        >>> is_exact_match("so 5 + 5. #### 10.0", "5 + 5 = 10 #### 10")
        True
    """
    answer = final_answer(generated)
    return answer is not None and answer == final_answer(expected)


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


class ExactMatch(Metric):
    """Share of generated solutions whose final answer (`#### n`) is the expected number.

    Example:
        >>> metric = ExactMatch()
        >>> metric.update(["#### 4", "no idea"], ["#### 4.0", "#### 7"])
        >>> metric.compute()
        tensor(0.5000)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, generated: Sequence[str], expected: Sequence[str]) -> None:
        """Count solutions.

        Args:
            generated: What the model wrote, one text per problem.
            expected: Worked solutions of the same problems.

        Raises:
            ValueError: If there are more of one than of the other.
        """
        if len(generated) != len(expected):
            raise ValueError(
                f"Expected as many generated as expected solutions, got {len(generated)} and "
                f"{len(expected)}: they are compared in pairs. Give one of each per problem."
            )
        self.right += sum(map(is_exact_match, generated, expected))
        self.total += len(generated)

    def compute(self) -> Tensor:
        """Return the share of right answers, in [0, 1]; NaN if nothing was counted."""
        return self.right.float() / self.total
