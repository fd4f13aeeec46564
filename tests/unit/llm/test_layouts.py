"""Rows of tokens: nothing lost, nothing split, and packing changes no number."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_qsgd.llm import Packed, Padded
from lightning_qsgd.llm.layouts import (
    OPEN_ROWS,
    Example,
    document_mask,
    document_positions,
    split_documents,
    tokenise,
)
from lightning_qsgd.llm.loss import IGNORED, answer_loss, num_answer_tokens
from tests.llm_cases import CHAT_TEMPLATE, language_model, problems, tokenizer

PAD = 0
lengths = st.lists(st.integers(1, 12), max_size=200)


def examples(*shapes: tuple[int, int]) -> list[Example]:
    """Random examples of the given prompt and answer lengths."""
    generator = torch.Generator().manual_seed(0)
    return [
        Example(torch.randint(2, 300, (p + a,), generator=generator, dtype=torch.int32), p)
        for p, a in shapes
    ]


@given(lengths, st.sampled_from([Padded, Packed]))
def test_every_example_is_in_one_row_that_has_room(own: list[int], layout: Any) -> None:
    rows = layout(12).rows(own)
    assert sorted(index for row in rows for index in row) == list(range(len(own)))
    assert all(0 < sum(own[index] for index in row) <= 12 for row in rows)


@given(lengths)
def test_packing_is_first_fit_over_the_open_rows(own: list[int]) -> None:
    rows: list[list[int]] = []
    for index, length in enumerate(own):
        for row in rows[-OPEN_ROWS:]:
            if sum(own[i] for i in row) + length <= 12:
                row.append(index)
                break
        else:
            rows.append([index])
    assert Packed(12).rows(own) == rows


def test_padded_batch_holds_tokens_labels_and_padding() -> None:
    first, second = examples((2, 3), (1, 1))
    batch = Padded(6).collate([[first], [second]], PAD)
    assert batch["tokens"].tolist() == [[*first.tokens, PAD], [*second.tokens, *[PAD] * 4]]
    assert batch["labels"].tolist() == [
        [IGNORED, IGNORED, *first.tokens[2:], IGNORED],
        [IGNORED, second.tokens[1], *[IGNORED] * 4],
    ]
    assert set(batch) == {"tokens", "labels"}
    assert all(part.dtype == torch.int64 for part in batch.values())


def test_packed_batch_numbers_its_documents() -> None:
    row = examples((2, 1), (1, 1))
    batch = Packed(6).collate([row], PAD)
    assert batch["documents"].tolist() == [[0, 0, 0, 1, 1, -1]]
    assert batch["tokens"].tolist() == [[*row[0].tokens, *row[1].tokens, PAD]]


@pytest.mark.parametrize("layout", [Padded(16), Packed(16)], ids=["padded", "packed"])
def test_batch_comes_apart_into_its_prompts_and_answers(layout: Any) -> None:
    own = examples((2, 3), (4, 1), (1, 6), (3, 3))
    rows = [[own[i] for i in row] for row in layout.rows([len(e.tokens) for e in own])]
    pairs = split_documents(layout.collate(rows, PAD))
    flat = [example for row in rows for example in row]
    for (prompt, answer), (tokens, border) in zip(pairs, flat, strict=True):
        assert prompt.tolist() == tokens[:border].tolist()
        assert answer.tolist() == tokens[border:].tolist()


@given(st.lists(st.lists(st.integers(-1, 3), min_size=7, max_size=7), min_size=1, max_size=3))
def test_mask_and_positions_agree_with_loops(numbers: list[list[int]]) -> None:
    documents = torch.tensor([sorted(row) for row in numbers])
    mask, positions = document_mask(documents), document_positions(documents)
    for b, row in enumerate(documents.tolist()):
        for query in range(7):
            begins = row.index(row[query])
            assert int(positions[b, query]) == query - begins
            for key in range(7):
                assert bool(mask[b, 0, query, key]) == (begins <= key <= query)


def test_packed_documents_are_scored_as_if_alone() -> None:
    module = language_model().eval()
    own = examples((2, 3), (4, 1), (1, 6))
    packed = module(Packed(20).collate([own], PAD))
    start = 0
    for example in own:
        length = len(example.tokens)
        alone = module(Padded(length).collate([[example]], PAD))
        part = packed[:, start : start + length]
        torch.testing.assert_close(part, alone, rtol=0, atol=1e-5)
        start += length


def test_padding_changes_no_loss() -> None:
    module = language_model().eval()
    (own,) = examples((3, 4))
    batches = [Padded(context).collate([[own]], PAD) for context in (7, 20)]
    short, long = (answer_loss(module(batch), batch["labels"]) for batch in batches)
    torch.testing.assert_close(short, long, rtol=0, atol=1e-6)


def test_loss_is_the_mean_over_answer_tokens() -> None:
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, IGNORED, 2, 3, IGNORED], [4, 5, IGNORED, IGNORED, 6]])
    terms: list[Tensor] = [
        -logits[b, t - 1].log_softmax(-1)[labels[b, t]]
        for b in range(2)
        for t in range(1, 5)
        if labels[b, t] != IGNORED
    ]
    torch.testing.assert_close(answer_loss(logits, labels), torch.stack(terms).mean())
    assert num_answer_tokens(labels) == len(terms) == 4


def test_loss_is_the_one_of_transformers() -> None:
    module = language_model()
    batch = Padded(12).collate([[example] for example in examples((3, 4), (2, 8))], PAD)
    theirs = module.network(batch["tokens"], labels=batch["labels"]).loss
    torch.testing.assert_close(answer_loss(module(batch), batch["labels"]), theirs)


def test_loss_in_half_precision_is_computed_in_float32() -> None:
    logits = torch.full((1, 2, 4), 3e4, dtype=torch.float16)
    loss = answer_loss(logits, torch.tensor([[IGNORED, 1]]))
    torch.testing.assert_close(loss, torch.tensor(4.0).log())


def test_context_too_short_for_a_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="`context` to be at least 2, got 1"):
        Packed(1)


class Counting:
    """A tokenizer that counts its calls."""

    def __init__(self) -> None:
        self.own, self.calls = tokenizer(), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.own(*args, **kwargs)


def test_problems_are_tokenised_once(fresh_cache: Any) -> None:
    counting = Counting()
    first, second = tokenise(problems(), counting), tokenise(problems(), counting)
    assert counting.calls == 2  # prompts and answers, the first time
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.tokens, other.tokens)
        assert one.prompt_length == other.prompt_length
    counting.own.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    tokenise(problems(), counting)
    assert counting.calls == 4  # another template, other tokens


@pytest.mark.parametrize("chat_template", [None, CHAT_TEMPLATE])
def test_tokens_of_another_end_token_do_not_come_from_the_cache(
    fresh_cache: Any, chat_template: str | None
) -> None:
    own = tokenizer()
    own.chat_template = chat_template
    ends = []
    for end in ("<end>", "<pad>"):
        own.eos_token = end
        ends.append({int(example.tokens[-1]) for example in tokenise(problems(), own)})
    assert ends == [{own.convert_tokens_to_ids("<end>")}, {own.convert_tokens_to_ids("<pad>")}]


def test_tokens_of_special_words_taken_apart_do_not_come_from_the_cache(fresh_cache: Any) -> None:
    own = tokenizer()
    whole = tokenise(problems(), own)
    own.split_special_tokens = True
    apart = tokenise(problems(), own)
    assert all(len(two.tokens) > len(one.tokens) for one, two in zip(whole, apart, strict=True))


def test_tokens_read_as_the_problem() -> None:
    own = tokenizer()
    for problem, example in zip(problems(), tokenise(problems(), own), strict=True):
        prompt = own.decode(example.tokens[: example.prompt_length].tolist())
        answer = own.decode(example.tokens[example.prompt_length :].tolist())
        assert prompt == f"Question: {problem.question}\nAnswer:"
        assert answer == f" {problem.answer}<end>"
    assert tokenise([], own) == []
