"""The data module: parts, order, and what does not touch them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_qsgd.data.epoch_sampler import epoch_order
from lightning_qsgd.llm import GSM8KDataModule, HeldOut, Packed, Padded, gsm8k
from lightning_qsgd.llm.layouts import split_documents
from tests.llm_cases import CHAT_TEMPLATE, PROBLEMS, data, problems, tokenizer


def ready(**kwargs: Any) -> GSM8KDataModule:
    module = data(layout=Padded(512), **kwargs)
    module.setup("fit")
    return module


def prompts(module: GSM8KDataModule, loader: Any) -> list[str]:
    pairs = [pair for batch in loader for pair in split_documents(batch)]
    return [module.tokenizer.decode(prompt.tolist()) for prompt, _ in pairs]


def test_parts_share_no_problem_and_lose_none() -> None:
    module = ready()
    train = prompts(module, module.train_dataloader())
    val = prompts(module, module.val_dataloader())
    test = prompts(module, module.test_dataloader())
    assert (len(train), len(val), len(test)) == (22, 8, 10)
    assert set(train) | set(val) == {f"Question: {p.question}\nAnswer:" for p in problems()}
    assert len({*train, *val, *test}) == 40


def test_held_out_problems_follow_from_their_own_seed() -> None:
    chosen = []
    for seed, training in ((0, 1), (0, 2), (3, 1)):
        torch.manual_seed(training)
        module = ready(held_out=HeldOut(8, seed))
        chosen.append(prompts(module, module.val_dataloader()))
    assert chosen[0] == chosen[1] != chosen[2]


def test_train_order_is_a_function_of_seed_and_epoch() -> None:
    module = ready(order_seed=5)
    loader: Any = module.train_dataloader()
    unshuffled = list(module._of("train"))
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)
        first = [row for batch in loader for row in batch["tokens"]]
        expected = [unshuffled[index] for index in epoch_order(22, 5, epoch)]
        for row, (example,) in zip(first, expected, strict=True):
            assert torch.equal(row[: len(example.tokens)], example.tokens.long())


def test_order_follows_the_global_seed_where_none_is_given() -> None:
    torch.manual_seed(11)
    module = ready()
    loader: Any = module.train_dataloader()
    assert loader.sampler.seed == 11


def test_loading_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    module = ready()
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_packed_rows_hold_the_same_problems() -> None:
    padded, packed = ready(), data(layout=Packed(512))
    packed.setup("fit")
    one = prompts(padded, padded.train_dataloader())
    other = prompts(packed, packed.train_dataloader())
    assert sorted(one) == sorted(other)
    assert len(packed._of("train")) < len(padded._of("train"))


def test_problems_longer_than_the_context_are_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(gsm8k, "rank_zero_info", said.append)
    own = ready().tokenizer
    lengths = sorted(
        len(own(f"Question: {p.question}\nAnswer: {p.answer}<end>")["input_ids"])
        for p in problems()
    )
    module = data(layout=Padded(lengths[20]))
    module.setup("fit")
    kept = len(module._of("train")) + len(module._of("val"))
    assert 20 < kept < 30
    assert kept == sum(length <= lengths[20] for length in lengths)
    assert "of 22 problems of the train part: they are longer than the context" in said[0]


def test_context_that_fits_nothing_is_refused() -> None:
    module = data(layout=Padded(8))
    with pytest.raises(ValueError, match=r"at most 8 tokens in the train part, got \d+ and more"):
        module.setup("fit")


def test_holding_everything_out_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 30 problems to train on, got 30"):
        data(held_out=HeldOut(30)).setup("fit")


def test_serving_before_setup_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"not set up yet. Call `setup\('fit'\)` first"):
        data().train_dataloader()


def test_testing_without_a_test_part_is_refused() -> None:
    module = GSM8KDataModule(str(PROBLEMS / "train.jsonl"), data()._source, Padded(512))
    module.held_out = HeldOut(8)
    module.setup("test")
    with pytest.raises(FileNotFoundError, match=r"Cannot test: .* has no test part. Put a test"):
        module.test_dataloader()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"batch_size": 0}, "`batch_size` to be at least 1, got 0"),
        ({"order_seed": -1}, r"`order_seed` to be an integer in \[0, 2\*\*64\), got -1"),
    ],
)
def test_impossible_arguments_are_refused(argument: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data(**argument)


def test_held_out_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`size` to be at least 1, got 0"):
        HeldOut(0)


def test_rows_are_padded_with_the_end_where_there_is_no_padding_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ready()
    module.tokenizer.pad_token = None
    batch = next(iter(module.val_dataloader()))
    assert int(batch["tokens"][0, -1]) == module.tokenizer.eos_token_id
    assert int(batch["labels"][0, -1]) == -100


@pytest.mark.parametrize("chat_template", [None, CHAT_TEMPLATE])
@pytest.mark.parametrize("pad_token", [None, "<pad>"])
def test_tokenizer_without_an_end_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, chat_template: str | None, pad_token: str | None
) -> None:
    own = tokenizer()
    own.eos_token, own.pad_token, own.chat_template = None, pad_token, chat_template
    module = data(layout=Padded(512))
    monkeypatch.setattr(type(module._source), "build", lambda *_: own)
    with pytest.raises(ValueError, match=r"an end token, got `eos_token` None: .* as `eos_token`"):
        module.setup("fit")


def test_path_is_read_relative_to_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROBLEMS.parent)
    module = GSM8KDataModule(Path("word_problems").name, data()._source, Padded(512), 2, HeldOut(8))
    module.setup("fit")
    assert len(module._of("train")) == 22
