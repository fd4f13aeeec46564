"""The page of other tools: its blocks run, and the tools give the numbers of plain torch."""

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_qsgd import (
    AllEntries,
    ConfiguredPerturbedOptimizer,
    Perturbation,
    PerturbedOptimizer,
    RandomEntries,
    RelativeInjection,
)
from tests.integration.modules import VISIBLE, loader, make_data, make_network, weights

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "ecosystem.md").read_text()
HEADINGS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))

pytestmark = pytest.mark.filterwarnings("ignore")  # of other projects; their numbers are checked


@pytest.fixture(autouse=True)
def accelerate_without_a_past() -> Iterator[None]:
    """accelerate keeps its settings for the whole process: the next test must not inherit them."""
    yield
    if "accelerate" in sys.modules:
        state = import_module("accelerate.state")
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


def perturbed_steps(optimizer: Any) -> int:
    """Count the perturbed steps of an optimizer, also inside accelerate's or Lightning's."""
    inner = getattr(optimizer, "optimizer", optimizer)
    assert isinstance(inner, PerturbedOptimizer)
    return inner.own_state.applied


def check_trainer(names: dict[str, Any]) -> None:
    assert perturbed_steps(names["trainer"].optimizer) == 4
    assert perturbed_steps(names["by_class"].optimizer) == 4
    decays = [group["weight_decay"] for group in names["by_class"].optimizer.param_groups]
    assert decays == [0.0, 0.0]  # those of TrainingArguments, for weights and for biases


def check_schedule_free(names: dict[str, Any]) -> None:
    (optimizer,) = names["callback"].optimizers
    assert type(optimizer.base).__name__ == "AdamWScheduleFree"
    assert perturbed_steps(optimizer) == 34
    assert not optimizer.param_groups[0]["train_mode"]
    assert names["trainer"].callback_metrics["val/accuracy"] > 0.5


def check_torchao(names: dict[str, Any]) -> None:
    optimizer = names["optimizer"]
    assert perturbed_steps(optimizer) == 2
    assert "8bit" in type(optimizer.state[names["model"].weight]["exp_avg"]).__name__
    from torchao import quantize_
    from torchao.prototype.quantized_training import int8_weight_only_quantized_training

    quantized = nn.Sequential(nn.Linear(64, 64))
    quantize_(quantized, int8_weight_only_quantized_training())
    with pytest.raises(TypeError, match=r"stored as torchao.*single entries of it cannot be read"):
        PerturbedOptimizer(torch.optim.SGD(quantized.parameters(), lr=0.1))


def check_optuna(names: dict[str, Any]) -> None:
    trials = names["study"].trials
    assert trials[0].state.name == "COMPLETE"
    assert len(trials) == 3
    assert all(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials)
    hopeless = names["optuna"].pruners.ThresholdPruner(lower=2.0)  # no accuracy is above 1
    study = names["optuna"].create_study(direction="maximize", pruner=hopeless)
    study.optimize(names["objective"], n_trials=1)
    assert study.trials[0].state.name == "PRUNED"
    assert len(study.trials[0].intermediate_values) == 1


def check_wandb(names: dict[str, Any]) -> None:
    run = names["logger"].experiment
    assert run.summary["perturbation/relative_size"] > 0
    assert run.config["perturbation"]["strength"] == 0.5
    assert run.config["perturbation"]["backend"] == "SineBackend(num_qubits=4)"
    run.finish()
    import_module("wandb").teardown()  # its process would outlive the test
    assert list(Path("wandb").rglob("offline-run-*/*.wandb"))


def check_mlflow(names: dict[str, Any]) -> None:
    stored = names["logger"].experiment.get_run(names["logger"].run_id).data
    assert stored.metrics["perturbation/relative_size"] > 0
    assert stored.params["perturbation/strength"] == "0.5"
    assert Path("mlflow.db").exists()


def check_ray(names: dict[str, Any]) -> None:
    assert not names["found"].errors
    assert [result.metrics["perturbed"] for result in names["found"]] == [4]
    assert Path("ray").is_dir()


def check_four_steps(names: dict[str, Any], steps: int = 4) -> None:
    assert perturbed_steps(names["optimizer"]) == steps


SECTIONS: dict[str, tuple[list[str], Callable[[dict[str, Any]], None]]] = {
    "Hugging Face Trainer": (["transformers", "accelerate"], check_trainer),
    "accelerate": (["accelerate"], partial(check_four_steps, steps=2)),  # accumulates two batches
    "Fabric": ([], check_four_steps),
    "Schedule-free optimizers": (["schedulefree"], check_schedule_free),
    "pytorch_optimizer": (["pytorch_optimizer"], partial(check_four_steps, steps=1)),
    "torchao": (["torchao"], check_torchao),
    "optuna": (["optuna_integration"], check_optuna),
    "Weights & Biases": (["wandb"], check_wandb),
    "MLflow": (["mlflow"], check_mlflow),
    "torch.compile": ([], check_four_steps),
    "Ray Tune": (["ray"], check_ray),
}
"""What a section needs, and what must hold once its block has run."""


@pytest.mark.parametrize("heading", SECTIONS)
def test_block_of_a_section_runs_when_pasted_alone_and_does_what_it_says(
    heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs, check = SECTIONS[heading]
    for package in needs:
        pytest.importorskip(package, reason="`make ecosystem` installs it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # or its worker waits while others compute
    (block,) = re.findall(r"^```python\n(.*?)^```", HEADINGS[heading], re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "docs"}
    exec(compile(block, heading, "exec"), names)
    check(names)


def test_no_section_with_a_block_is_left_out() -> None:
    assert [name for name, text in HEADINGS.items() if "```python" in text] == list(SECTIONS)


def test_versions_of_the_page_are_those_that_are_installed_for_it() -> None:
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    rows = re.findall(r"^\| \[(.+?)\]\(.*?\)(?: \((\w+).*?\))? \| ([\d.]+) \|", PAGE, re.MULTILINE)
    named = {"transformers `Trainer`": "transformers", "torch": "torch", "nbclient": "nbclient"}
    told = {}
    for shown, inside, version in rows:
        package = named.get(shown) or (shown if shown in pins else inside)
        told[package] = version
    assert len(told) == 12
    assert {package: pins.get(package) for package in told} == told


class Scored(nn.Module):
    """The network of the other tests, with the loss inside, as the Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_network()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.network(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


ADAMW = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.0)
RANDOM = Perturbation(coordinates=RandomEntries(), injection=RelativeInjection(), seed=3)


def trained_by_trainer(
    folder: Path, perturbation: Perturbation | None, by_class: int = 0, resume: bool = False
) -> Tensor:
    transformers = pytest.importorskip("transformers", reason="needs the extra llm")
    pytest.importorskip("accelerate")
    rows = [{"x": x, "labels": y} for x, y in zip(*make_data(), strict=True)]
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=8,
        per_device_train_batch_size=4,
        save_steps=4,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    model = Scored()
    given: dict[str, Any] = {}
    if by_class:
        settings = {"base": ADAMW, "perturbation": perturbation}
        given["optimizer_cls_and_kwargs"] = (ConfiguredPerturbedOptimizer, settings)
    else:
        optimizer = ADAMW(model.parameters())
        wrapped = optimizer if perturbation is None else PerturbedOptimizer(optimizer, perturbation)
        given["optimizers"] = (wrapped, None)
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, **given)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-4") if resume else None)
    return weights(model)


def test_trainer_gives_the_same_numbers_both_ways_and_when_resumed(tmp_path: Path) -> None:
    plain = trained_by_trainer(tmp_path / "plain", None)
    off = Perturbation(strength=0.0)
    assert torch.equal(trained_by_trainer(tmp_path / "off", off), plain)
    whole = trained_by_trainer(tmp_path / "whole", RANDOM)
    assert (whole - plain).abs().max() > 1e-4
    assert torch.equal(trained_by_trainer(tmp_path / "whole", RANDOM, resume=True), whole)
    # By class the Trainer makes two groups, so that random entries would be drawn elsewhere.
    one, other = (trained_by_trainer(tmp_path / f"{by}", VISIBLE, by_class=by) for by in (0, 1))
    assert torch.equal(one, other)
    assert (one - plain).abs().max() > 1e-4


def trained_by_loop(perturbation: Perturbation, accelerator: Any = None) -> Tensor:
    """Train with two batches to a step; with accelerate if one is given."""
    network = make_network()
    model: Any = network
    optimizer: Any = PerturbedOptimizer(ADAMW(network.parameters()), perturbation)
    if accelerator is None:
        for number, (x, y) in enumerate(loader(), start=1):
            (nn.functional.cross_entropy(model(x), y) / 2).backward()
            if number % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()
        return weights(network)
    model, optimizer, batches = accelerator.prepare(model, optimizer, loader())
    for x, y in batches:
        with accelerator.accumulate(model):
            accelerator.backward(nn.functional.cross_entropy(model(x), y))
            optimizer.step()
            optimizer.zero_grad()
    return weights(network)


def test_accelerate_equals_a_plain_loop_bit_for_bit() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    trained = trained_by_loop(RANDOM, accelerator)
    assert torch.equal(trained, trained_by_loop(RANDOM))
    assert (trained - trained_by_loop(Perturbation(strength=0.0))).abs().max() > 1e-4


def test_a_prepared_optimizer_is_refused() -> None:
    accelerate = pytest.importorskip("accelerate")
    prepared = accelerate.Accelerator(cpu=True).prepare(ADAMW(make_network().parameters()))
    with pytest.raises(TypeError, match=r"belongs to a trainer.*Perturb the optimizer inside it"):
        PerturbedOptimizer(prepared)


def test_modes_of_a_schedule_free_base_are_reached_through_the_wrapper() -> None:
    schedulefree = pytest.importorskip("schedulefree", reason="`make ecosystem` installs it")
    network = make_network()
    base = schedulefree.SGDScheduleFree(network.parameters(), lr=0.1)
    optimizer: Any = PerturbedOptimizer(base, VISIBLE)
    optimizer.train()
    for x, y in loader():
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    training = weights(network)
    optimizer.eval()
    assert (weights(network) - training).abs().max() > 1e-3
    with pytest.raises(Exception, match="train mode"):
        optimizer.step()
    optimizer.train()
    torch.testing.assert_close(weights(network), training)


@pytest.mark.parametrize("what", ["model", "step"])
def test_compiled_model_and_compiled_step_give_the_numbers_of_plain_torch(what: str) -> None:
    def trained(compiled: bool) -> Tensor:
        network = make_network()
        optimizer = PerturbedOptimizer(
            ADAMW(network.parameters()), Perturbation(coordinates=AllEntries())
        )
        model: Any = network
        step: Any = optimizer.step
        if compiled and what == "model":
            model = torch.compile(network, backend="eager")
        elif compiled:
            step = torch.compile(optimizer.step, backend="eager")
        for x, y in loader(count=3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            step()
        assert optimizer.own_state.applied == 3
        return weights(network)

    torch._dynamo.reset()
    torch.testing.assert_close(trained(True), trained(False), rtol=0, atol=2e-6)
