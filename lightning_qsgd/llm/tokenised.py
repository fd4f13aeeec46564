"""Tokenise problems once, and keep the result for all later runs."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_qsgd.llm.cache import cached, key_of
from lightning_qsgd.llm.problems import Problem
from lightning_qsgd.llm.prompts import DATE, prompt_and_answer

FORMAT = "1"
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

    The cache's key is a hash of the problems and of the whole tokenizer, chat template included.

    Args:
        problems: The problems.
        tokenizer: A fast tokenizer of transformers.

    Returns:
        One example per problem, in their order.
    """
    if not problems:
        return []
    settings = (FORMAT, DATE, tokenizer.backend_tokenizer.to_str(), str(tokenizer.chat_template))
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
