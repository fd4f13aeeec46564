"""Public optimizers as arms: each trains, has ranges that suit it, and may be named by class."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from torch.utils.data import DataLoader

from lightning_qsgd.cli.compare_command import compare_command
from lightning_qsgd.compare import load_results
from lightning_qsgd.compare.planning import Range
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training import OptimizerModesCallback, PerturbationCallback

ZOO = Path(__file__).parents[2] / "configs" / "arms" / "zoo"


def made(config: dict[str, Any], params: Any) -> torch.optim.Optimizer:
    module, name = config["class_path"].rsplit(".", 1)
    kind = getattr(__import__(module, fromlist=[name]), name)
    arguments = {**config["init_args"], **config.get("dict_kwargs", {})}
    made: torch.optim.Optimizer = kind(params, **arguments)
    return made


@pytest.mark.parametrize("file", sorted(ZOO.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_optimizer_of_the_zoo_lowers_a_loss_and_has_its_ranges(file: Path) -> None:
    pytest.importorskip("pytorch_optimizer")
    config = yaml.safe_load(file.read_text())
    space = {name: Range(**span) for name, span in config["search_space"].items()}
    assert {"lr", "weight_decay"} <= space.keys()
    own = config["optimizer"]["init_args"]
    assert all(space[name].low <= own[name] <= space[name].high for name in ("lr", "weight_decay"))
    torch.manual_seed(0)
    layer = torch.nn.Sequential(*(torch.nn.Linear(4, n) for n in (4, 4, 3)))
    optimizer = made(config["optimizer"], layer.parameters())
    x = torch.randn(16, 4)
    y = x @ torch.randn(4, 3)
    getattr(optimizer, "train", lambda: None)()
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.mse_loss(layer(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@torch.no_grad()
def cautious_adamw(param: torch.Tensor, grads: list[torch.Tensor], lr: float, decay: float) -> None:
    """Algorithm 2 of Liang et al. 2024 by hand, with one added to the count of the mask."""
    m, v = torch.zeros_like(param), torch.zeros_like(param)
    for step, g in enumerate(grads, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        mask = (m * g > 0).to(g)
        mask *= mask.numel() / (mask.sum() + 1)
        scale = (v / (1 - 0.999**step)).sqrt() + 1e-8
        param.mul_(1 - lr * decay).sub_(lr * mask * m / (1 - 0.9**step) / scale)


def test_cautious_adamw_is_its_formula() -> None:
    pytest.importorskip("pytorch_optimizer")
    config = yaml.safe_load((ZOO / "cautious_adamw.yaml").read_text())["optimizer"]
    start = torch.randn(4, 5, dtype=torch.float64)
    param, expected = torch.nn.Parameter(start.clone()), start.clone()
    optimizer = made(config, [param])
    grads = [torch.randn(4, 5, dtype=torch.float64) for _ in range(12)]
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
    own = config["init_args"]
    cautious_adamw(expected, grads, own["lr"], own["weight_decay"])
    torch.testing.assert_close(param.detach(), expected, rtol=0, atol=1e-12)


class TwoModes(torch.optim.SGD):
    """Remembers which mode it was put into."""

    modes: tuple[str, ...] = ()

    def train(self) -> None:
        self.modes += ("train",)

    def eval(self) -> None:
        self.modes += ("eval",)

    def step(self, closure: Any = None) -> Any:
        assert self.modes[-1] == "train"
        return super().step(closure)


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        loss: torch.Tensor = self.layer(batch).square().mean()
        return loss

    def validation_step(self, batch: torch.Tensor, number: int) -> None:
        assert self.trainer.sanity_checking or self.optimizer.modes[-1] == "eval"

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.optimizer = TwoModes(self.parameters(), lr=0.1)
        return self.optimizer


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*number of training")
def test_an_optimizer_with_modes_is_in_the_one_that_training_is_in() -> None:
    model, data = Line(), DataLoader(torch.ones(8, 1), batch_size=2)
    trainer = Trainer(
        max_epochs=2,
        callbacks=[OptimizerModesCallback()],
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data, data)
    assert model.optimizer.modes[-1] == "eval"
    trainer.validate(model, data, verbose=False)
    assert model.optimizer.modes[-1] == "eval"


class ScheduleFree(torch.optim.Optimizer):
    """Steps at y, between its average x, which is good, and z; keeps x to compare with."""

    def __init__(self, params: Any, lr: float = 0.3) -> None:
        super().__init__(params, {"lr": lr, "train_mode": True, "steps": 0})

    @torch.no_grad()
    def switch(self, train: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] != train:
                group["train_mode"] = train
                for p in group["params"]:
                    if p in self.state:
                        p.lerp_(self.state[p]["z"], 0.1 if train else 1 - 1 / 0.9)

    def train(self) -> None:
        self.switch(True)

    def eval(self) -> None:
        self.switch(False)

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        group = self.param_groups[0]
        assert group["train_mode"]
        loss = closure()
        group["steps"] += 1
        with torch.no_grad():
            for p in group["params"]:
                kept = self.state[p]
                z, x = (kept.setdefault(name, p.detach().clone()) for name in "zx")
                z.sub_(p.grad, alpha=group["lr"])
                x.lerp_(z, 1 / group["steps"])
                p.copy_(x.lerp(z, 0.1))
        return loss


class Validated(LightningModule):
    """Logs what its validation saw; `within` is called within a batch, before its step."""

    within: Any = None

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        if self.within is not None:
            self.within(self.trainer)
        return self.loss(batch)

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.layer(batch) - 1).square().mean()

    def validation_step(self, batch: torch.Tensor, number: int) -> None:
        self.log("loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return ScheduleFree(self.parameters())


DATA = torch.tensor([[1.0, 0.5]] * 8)  # all batches are alike, so that resuming needs no order


def trained(*callbacks: Any, model: Any = None, file: Any = None, limit: int = 2) -> Any:
    model = Validated() if model is None else model
    data = DataLoader(DATA, batch_size=2)
    trainer = Trainer(
        max_epochs=limit,
        callbacks=[OptimizerModesCallback(), *callbacks],
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
    )
    trainer.fit(model, data, data, ckpt_path=file)
    return model


QUIET = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*number of training",
    "ignore:.*callbacks used to create the checkpoint",  # they are there, with another folder
    "ignore:The dirpath has changed",
    "ignore:.*was called without a model",  # told where an OnExceptionCheckpoint is there
    "ignore:.*there is no last checkpoint",
    "ignore:You.re resuming from a checkpoint that ended before",
)
SAVED: dict[str, dict[str, Any]] = {
    "after a validation": {"monitor": "loss"},
    "at the end of an epoch": {"save_on_train_epoch_end": True, "every_n_epochs": 1},
    "every few steps": {"every_n_train_steps": 3},
}


def weights(file: Path) -> torch.Tensor:
    saved = torch.load(file, weights_only=True)["state_dict"]
    return torch.cat([tensor.flatten() for tensor in saved.values()])


def average(file: Path) -> torch.Tensor:
    """Return x, which is far from y: by more than 0.001 in these trainings."""
    (saved,) = torch.load(file, weights_only=True)["optimizer_states"]
    x, z = (torch.cat([s[name].flatten() for s in saved["state"].values()]) for name in "xz")
    assert 0.1 * (z - x).abs().max() > 1e-3
    return x


@QUIET
@pytest.mark.parametrize("when", SAVED)
@pytest.mark.parametrize("perturbed", [False, True])
def test_checkpoints_hold_the_validated_weights_and_resume_exactly(
    tmp_path: Path, when: str, perturbed: bool
) -> None:
    def fitted(folder: str, file: Any = None) -> Any:
        saving = ModelCheckpoint(tmp_path / folder, "{step}", save_top_k=-1, **SAVED[when])
        perturbing = [PerturbationCallback(Perturbation(strength=0.5))] if perturbed else []
        return saving, trained(*perturbing, saving, file=file)

    saving, model = fitted("whole")
    files = sorted(
        (tmp_path / "whole").glob("*.ckpt"), key=lambda file: int(file.stem.split("=")[1])
    )
    assert len(files) == 2
    for file in files:
        saved = torch.load(file, weights_only=True)["optimizer_states"][0]
        assert saved["param_groups"][0]["train_mode"] is False
        if not perturbed:  # what is added moves y alone, and with it the average that is restored
            torch.testing.assert_close(weights(file), average(file), rtol=0, atol=1e-6)
    if when == "after a validation":
        best = Validated.load_from_checkpoint(saving.best_model_path)
        assert best.loss(DATA[:2]) == saving.best_model_score
    _, resumed = fitted("resumed", files[0])
    assert all(map(torch.equal, model.parameters(), resumed.parameters()))


@QUIET
def test_checkpoints_of_weights_only_and_after_an_exception_hold_the_good_weights(
    tmp_path: Path,
) -> None:
    def at(folder: str, **settings: Any) -> Path:
        saving = ModelCheckpoint(
            tmp_path / folder, every_n_train_steps=3, save_top_k=-1, **settings
        )
        trained(saving, limit=1)
        (file,) = (tmp_path / folder).glob("*.ckpt")
        return file

    whole = at("all")
    expected = weights(whole)
    torch.testing.assert_close(expected, average(whole), rtol=0, atol=1e-6)
    assert torch.equal(weights(at("weights", save_weights_only=True)), expected)

    model = Validated()

    def interrupt(trainer: Trainer) -> None:
        if trainer.global_step == 3:
            raise ValueError("a broken batch")

    model.within = interrupt
    with pytest.raises(ValueError, match="a broken batch"):
        trained(OnExceptionCheckpoint(tmp_path, "broken"), model=model)
    assert torch.equal(weights(tmp_path / "broken.ckpt"), expected)


@QUIET
def test_a_validation_after_an_exception_measures_the_weights_of_its_file(tmp_path: Path) -> None:
    model, saving = Validated(), ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3)

    def interrupt(trainer: Trainer) -> None:
        if trainer.global_step == 5:
            raise ValueError("a broken batch")

    model.within = interrupt
    with pytest.raises(ValueError, match="a broken batch"):
        trained(saving, model=model)
    data = torch.utils.data.DataLoader(DATA, batch_size=2)
    file = saving.best_model_path
    model.trainer.validate(model, data, ckpt_path=file, verbose=False)
    here = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.equal(here, weights(Path(file)))


@QUIET
@pytest.mark.parametrize("place", [0, 1])
def test_an_average_of_weights_is_what_a_fit_leaves(place: int) -> None:
    averaging = pytest.importorskip("lightning.pytorch.callbacks")
    if not hasattr(averaging, "EMAWeightAveraging"):
        pytest.skip("needs a newer Lightning")
    own = averaging.EMAWeightAveraging(decay=0.5)
    callbacks = [OptimizerModesCallback()]
    callbacks.insert(place, own)
    model = Validated()
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    data = torch.utils.data.DataLoader(DATA, batch_size=2)
    trainer.fit(model, data)
    trainer.validate(model, data, verbose=False)  # which switches nothing any more
    average = [p.detach() for p in own._average_model.module.parameters()]
    assert all(map(torch.equal, average, model.parameters()))


@QUIET
def test_a_checkpoint_within_a_batch_holds_the_weights_of_training(tmp_path: Path) -> None:
    model, plain = Validated(), trained(limit=1)

    def save(trainer: Trainer) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(tmp_path / "within.ckpt")

    model.within = save
    trained(model=model, limit=1)
    assert all(map(torch.equal, model.parameters(), plain.parameters()))
    saved = torch.load(tmp_path / "within.ckpt", weights_only=True)["optimizer_states"][0]
    assert saved["param_groups"][0]["train_mode"] is True
    assert "lightning_module_state_dict" not in vars(model.trainer.strategy)


def run(tmp_path: Path, *arguments: str) -> Any:
    plan = {
        "experiment": str(ZOO.parents[1] / "experiments" / "digits.yaml"),
        "budget": {"max_steps": 3},
        "seeds": 1,
        "arms": {
            "adamw": {"kind": "baseline"},
            "sine": {"overlay": {"perturbation": {"strength": 0.5}}},
        },
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    folder = str(tmp_path / "out")
    compare_command(["--config", str(tmp_path / "plan.yaml"), "--folder", folder, *arguments])
    return load_results(tmp_path / "out")


@pytest.mark.filterwarnings("ignore")
def test_arms_are_added_by_class_path_and_left_out_by_name(tmp_path: Path) -> None:
    added = run(tmp_path, "--arm", "torch.optim.NAdam", "--skip", "sine")
    assert [arm.name for arm in added.comparison.arms] == ["adamw", "nadam"]
    assert "torch.optim.NAdam" in added.comparison.arm("nadam").overlay
    stored = tmp_path / "out" / "runs" / "adamw" / "seed0.json"
    before = stored.read_bytes()
    more = run(tmp_path, "--arm", str(ZOO / "sgd.yaml"), "--seeds", "2")
    assert [arm.name for arm in more.comparison.arms] == ["adamw", "sine", "sgd"]
    assert len(more.runs) == 6
    assert stored.read_bytes() == before


@pytest.mark.filterwarnings("ignore")
def test_an_arm_that_fails_is_named_before_its_runs(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"'broken' fails in its first steps(.|\n)*no luck"):
        run(tmp_path, "--arm", "tests.integration.test_zoo.Broken", "--only", "broken")


class Broken(torch.optim.SGD):
    """Fails at its first step."""

    def step(self, closure: Any = None) -> Any:
        raise ArithmeticError("no luck")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "sin"], "Did you mean 'sine'"),
        (["--arm", "MyOptimizer"], "names no module"),
        (["--arm", "mine.Sine"], "arm of that name"),
        (["--skip", "sine"], "Expected two arms or more"),
    ],
)
def test_arms_that_are_not_there_or_twice_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, *arguments)
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
