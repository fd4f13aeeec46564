"""A language model inside Lightning: what is logged, scheduled, resumed and refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

pytest.importorskip("transformers", reason="needs the extra llm")

from lightning_qsgd.llm import (
    CausalLM,
    Generation,
    GradientCheckpointing,
    LinearSchedule,
    LoRA,
    ModelFromConfig,
    Packed,
    causal_lm,
)
from lightning_qsgd.llm.layouts import split_documents
from lightning_qsgd.llm.loss import IGNORED
from lightning_qsgd.perturbations import AllEntries, Perturbation
from lightning_qsgd.training import PerturbationCallback
from tests.llm_cases import SIZES, TINY, data, language_model

pytestmark = [
    # peft 0.21 asks transformers 5.24 by a name that it warns about.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]
BATCHES = 11  # of two problems each


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "llm_cache"))


class Watch(Callback):
    """Keeps losses, learning rates and random states of the steps."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))


def fit(*callbacks: Callback, epochs: int = 1, trainer: Any = None, **kwargs: Any) -> CausalLM:
    """Train the tiny Llama on the problems of the tests, from seed 0."""
    seed_everything(0, verbose=False)
    resumed = kwargs.pop("ckpt_path", None)
    module = language_model(**({"learning_rate": 1e-2} | kwargs))
    settings = {"logger": False, "enable_checkpointing": False} | (trainer or {})
    own = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    own.fit(module, datamodule=data(layout=Packed(512), batch_size=2), ckpt_path=resumed)
    return module


def weights(module: CausalLM) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_loss_falls_and_its_mean_over_steps_is_logged() -> None:
    watch = Watch()
    module = fit(watch, epochs=3)
    metrics = module.trainer.callback_metrics
    steps = len(watch.losses) // 3
    mean = torch.tensor(watch.losses[-steps:]).mean()
    torch.testing.assert_close(metrics["train/loss_epoch"], mean)
    assert watch.losses[-1] < watch.losses[0] - 0.5


def test_validation_loss_is_the_mean_over_all_answer_tokens() -> None:
    module = fit()
    logged = module.trainer.callback_metrics["val/loss"]
    total = count = 0.0
    module.eval()
    for batch in module.trainer.datamodule.val_dataloader():
        with torch.no_grad():
            scores = module(batch)[:, :-1].log_softmax(-1)
        wanted = batch["labels"][:, 1:]
        for b, t in (wanted != IGNORED).nonzero().tolist():
            total, count = total - float(scores[b, t, wanted[b, t]]), count + 1
    torch.testing.assert_close(float(logged), total / count, rtol=1e-5, atol=0)


def test_share_of_right_answers_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def solve_every_other(network: Any, prompts: list[Tensor], *_: Any) -> list[Tensor]:
        own = {tuple(p.tolist()): a for p, a in known}
        asked.extend(range(len(asked), len(asked) + len(prompts)))
        places = asked[-len(prompts) :]
        right = [own[tuple(p.tolist())][:-1] for p in prompts]
        return [a if n % 2 else a[:3] for n, a in zip(places, right, strict=True)]

    served = data(layout=Packed(512), batch_size=2)
    served.setup("fit")
    known = [pair for batch in served.val_dataloader() for pair in split_documents(batch)]
    monkeypatch.setattr(causal_lm, "continue_greedily", solve_every_other)
    module = fit(generation=Generation(examples=6))
    assert len(asked) == 6
    assert float(module.trainer.callback_metrics["val/exact_match"]) == 0.5


def test_generating_answers_changes_nothing_in_the_training() -> None:
    plain = fit(epochs=2)
    solving = fit(epochs=2, generation=Generation(examples=3, max_new_tokens=4))
    assert torch.equal(weights(plain), weights(solving))
    assert 0.0 <= float(solving.trainer.callback_metrics["val/exact_match"]) <= 1.0


def test_test_part_is_measured() -> None:
    module = fit(generation=Generation(examples=2, max_new_tokens=4))
    (measured,) = module.trainer.test(module, module.trainer.datamodule, verbose=False)
    assert set(measured) == {"test/loss", "test/exact_match"}


def test_rate_warms_up_and_reaches_0_at_the_end() -> None:
    watch = Watch()
    module = fit(watch, epochs=2, schedule=LinearSchedule(2))
    steps = module.trainer.global_step
    expected = [1e-2 * min(n / 2, (steps - n) / (steps - 2)) for n in range(steps)]
    assert watch.rates == pytest.approx(expected)
    assert module.trainer.optimizers[0].param_groups[0]["lr"] == 0.0


def test_rate_is_constant_without_a_schedule() -> None:
    watch = Watch()
    fit(watch, schedule=None)
    assert set(watch.rates) == {1e-2}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"changes": [LoRA(rank=2, dropout=0.1), GradientCheckpointing()]},
        {"trainer": {"precision": "bf16-mixed", "gradient_clip_val": 1.0}},
    ],
    ids=["whole model", "LoRA with checkpointing", "bf16-mixed, clipped"],
)
def test_every_step_is_perturbed(settings: Any) -> None:
    perturbation = Perturbation(coordinates=AllEntries(), strength=20.0)
    callback = PerturbationCallback(perturbation)
    module = fit(callback, **settings)
    plain = fit(**settings)
    (optimizer,) = callback.optimizers
    assert optimizer.own_state.applied == module.trainer.global_step > 3
    assert (weights(module) - weights(plain)).abs().max() > 1e-4


def test_resumed_run_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    def run(name: str, **kwargs: Any) -> CausalLM:
        keep = ModelCheckpoint(tmp_path / name, "{epoch}", save_top_k=-1, every_n_epochs=1)
        perturb = PerturbationCallback(Perturbation(coordinates=AllEntries(), strength=5.0))
        return fit(keep, perturb, epochs=2, trainer={"enable_checkpointing": True}, **kwargs)

    whole = run("whole", schedule=LinearSchedule(2))
    first = tmp_path / "whole" / "epoch=0.ckpt"
    resumed = run("resumed", schedule=LinearSchedule(2), ckpt_path=first)
    assert torch.equal(weights(whole), weights(resumed))
    loaded = CausalLM.load_from_checkpoint(tmp_path / "resumed" / "epoch=1.ckpt", model=TINY)
    assert torch.equal(weights(loaded), weights(whole))


def test_curves_are_written(tmp_path: Path) -> None:
    fit(trainer={"logger": CSVLogger(tmp_path), "log_every_n_steps": 1})
    header = next(tmp_path.rglob("metrics.csv")).read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/loss_epoch", "val/loss"} <= set(header)


def test_generating_without_a_tokenizer_is_refused() -> None:
    served = data(layout=Packed(512))
    served.setup("fit")
    module = language_model(generation=Generation())
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(RuntimeError, match=r"Cannot generate answers: the data has no tokenizer"):
        trainer.fit(module, served.train_dataloader())


def test_model_that_knows_too_few_tokens_is_refused() -> None:
    module = CausalLM(ModelFromConfig("llama", {**SIZES, "vocab_size": 280}))
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(ValueError, match=r"tokenizer of at most 280 tokens, .* got 300: the model"):
        trainer.fit(module, datamodule=data(layout=Packed(512)))


def test_generating_with_a_sharded_model_is_refused() -> None:
    module = language_model(generation=Generation())
    module._tokenizer = object()
    module._device_mesh = object()  # what ModelParallelStrategy sets
    with pytest.raises(RuntimeError, match=r"Cannot generate answers with a sharded model"):
        module._require_generation()
