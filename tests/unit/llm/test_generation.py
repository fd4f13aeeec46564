"""Greedy answers: what one would get token by token, and nothing is drawn."""

from typing import Any

import torch
from torch import Tensor

from lightning_qsgd.llm.answers import continue_greedily
from tests.llm_cases import language_model

END = 1


def token_by_token(model: Any, prompt: Tensor, limit: int) -> list[int]:
    """The oracle: the whole text again for every token, without a cache."""
    tokens = prompt.tolist()
    for _ in range(limit):
        token = int(model(torch.tensor([tokens])).logits[0, -1].argmax())
        if token == END:
            break
        tokens.append(token)
    return tokens[len(prompt) :]


def sharpened(end: float) -> Any:
    """A model that is far from undecided, and to which every token it sees matters."""
    model = language_model().eval().network
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model.get_input_embeddings().weight[END].mul_(end)
    return model


@torch.no_grad()
def test_batch_of_prompts_is_continued_as_each_alone() -> None:
    model = sharpened(end=4.0)
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(2, 300, (n,), generator=generator) for n in (5, 1, 9, 3, 4, 2)]
    written = [row.tolist() for row in continue_greedily(model, prompts, 12, END)]
    assert written == [token_by_token(model, prompt, 12) for prompt in prompts]
    assert len({len(row) for row in written}) > 1  # some ended by themselves


@torch.no_grad()
def test_nothing_is_drawn() -> None:
    model = sharpened(end=1.0)
    before = torch.get_rng_state()
    continue_greedily(model, [torch.tensor([5, 6])], 4, END)
    assert torch.equal(torch.get_rng_state(), before)
