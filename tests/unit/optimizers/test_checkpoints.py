"""State: exchange with the plain base, resume bit for bit, refusal of damaged counters."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.optimizers.perturbed import STATE_KEY
from lightning_qsgd.perturbations import (
    CyclicEntries,
    Perturbation,
    RandomEntries,
    Strength,
    UpdateInjection,
)
from tests.cases import INJECTIONS, Problem, dense_problem


def adamw(problem: Problem) -> torch.optim.AdamW:
    return torch.optim.AdamW(problem.parameters, lr=1e-2)


def train(problem: Problem, optimizer: Any, steps: int) -> None:
    for _ in range(steps):
        problem.backward()
        optimizer.step()


def through_a_file(state: Any, path: Path) -> Any:
    torch.save(state, path)
    return torch.load(path, weights_only=True)


def copy_parameters(source: Problem, target: Problem) -> None:
    for left, right in zip(source.parameters, target.parameters, strict=True):
        right.data.copy_(left.data)


def moments(optimizer: Any) -> list[float]:
    return [
        value
        for state in optimizer.state.values()
        for tensor in state.values()
        for value in tensor.reshape(-1).tolist()
    ]


def test_checkpoint_is_exchangeable_with_the_base_optimizer(tmp_path: Path) -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(adamw(problem))
    train(problem, optimizer, 3)
    bare = adamw(dense_problem())
    bare.load_state_dict(through_a_file(optimizer.state_dict(), tmp_path / "wrapped.pt"))
    assert moments(bare) == moments(optimizer)

    again = PerturbedOptimizer(adamw(dense_problem()))
    again.load_state_dict(through_a_file(bare.state_dict(), tmp_path / "bare.pt"))
    assert moments(again) == moments(optimizer)
    assert again.own_state.steps == 0


def test_a_plain_checkpoint_leaves_the_counters_alone() -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(adamw(problem))
    train(problem, optimizer, 3)
    optimizer.load_state_dict(optimizer.base.state_dict())
    assert optimizer.own_state.steps == 3


def test_saved_state_holds_plain_counters_under_one_key() -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(adamw(problem), Perturbation(strength=Strength(0.5, every=2)))
    train(problem, optimizer, 3)
    state = optimizer.state_dict()
    assert set(state) == {"state", "param_groups", STATE_KEY}
    counters = {"steps": 3, "due": 2, "applied": 2, "skipped": 0, "circuits": 0}
    assert state[STATE_KEY] == {"format": 2, **counters}


@pytest.mark.parametrize("coordinates", [RandomEntries(), CyclicEntries()], ids=str)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    injection: str, coordinates: RandomEntries, tmp_path: Path
) -> None:
    perturbation = Perturbation(
        backend=SamplerBackend(SuperpositionCircuit(2), sampling=10),
        coordinates=coordinates,
        strength=Strength(0.5, warmup_steps=5, every=2),
        injection=INJECTIONS[injection],
        seed=4,
    )
    whole, first, second = dense_problem(), dense_problem(), dense_problem()
    train(whole, PerturbedOptimizer(adamw(whole), perturbation), 8)

    optimizer = PerturbedOptimizer(adamw(first), perturbation)
    train(first, optimizer, 3)
    copy_parameters(first, second)
    resumed = PerturbedOptimizer(adamw(second), perturbation)
    resumed.load_state_dict(through_a_file(optimizer.state_dict(), tmp_path / "state.pt"))
    train(second, resumed, 5)
    assert torch.equal(whole.flat(), second.flat())
    assert resumed.own_state.steps == 8


def test_loading_in_mid_training_keeps_one_truth_with_the_base() -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(adamw(problem))
    train(problem, optimizer, 2)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert optimizer.defaults is optimizer.base.defaults
    optimizer.param_groups[0]["lr"] = 0.0
    before = problem.flat()
    train(problem, optimizer, 1)
    assert torch.equal(problem.flat(), before)


DAMAGED: dict[str, Any] = {
    "missing counter": {"steps": 1, "due": 1},
    "negative": {"steps": -1, "due": 0, "applied": 0},
    "fraction": {"steps": 1.5, "due": 0, "applied": 0},
    "text": {"steps": "1", "due": 0, "applied": 0},
    "nothing": None,
    "list": [1, 1, 1],
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_counters_are_refused_and_nothing_is_loaded(damage: str) -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(adamw(problem))
    train(problem, optimizer, 2)
    before = moments(optimizer)
    state = {**PerturbedOptimizer(adamw(dense_problem())).state_dict(), STATE_KEY: DAMAGED[damage]}
    message = r"Cannot load the perturbation's state: .*damaged; load an earlier one"
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.own_state.steps == 2
    assert moments(optimizer) == before


def test_a_state_that_does_not_fit_the_base_leaves_the_counters_alone() -> None:
    problem = dense_problem()
    optimizer = PerturbedOptimizer(adamw(problem))
    train(problem, optimizer, 2)
    other = dense_problem(shapes=((2,),))
    foreign = PerturbedOptimizer(adamw(other)).state_dict()
    with pytest.raises(ValueError, match="doesn't match the size of"):
        optimizer.load_state_dict(foreign)
    assert optimizer.own_state.steps == 2


def test_loading_does_not_change_the_state_that_was_passed() -> None:
    optimizer = PerturbedOptimizer(adamw(dense_problem()))
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert set(state) == {"state", "param_groups", STATE_KEY}


@pytest.mark.parametrize(
    "injection", [*INJECTIONS.values(), UpdateInjection(step_size=0.1)], ids=str
)
def test_distributed_checkpoint_neither_counts_nor_runs_circuits(
    injection: UpdateInjection, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    original = SamplerBackend.readout

    def readout(self: SamplerBackend, inputs: torch.Tensor, keys: Any = None) -> torch.Tensor:
        runs.append(1)
        return original(self, inputs, keys)

    monkeypatch.setattr(SamplerBackend, "readout", readout)
    model = nn.Linear(3, 2)
    weights = model.weight.detach().clone()
    optimizer = PerturbedOptimizer(
        torch.optim.AdamW(model.parameters(), lr=1e-2),
        Perturbation(backend=SamplerBackend(SuperpositionCircuit(2)), injection=injection),
    )
    saved = get_optimizer_state_dict(model, optimizer)
    assert (optimizer.own_state.steps, runs) == (0, [])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert (optimizer.own_state.steps, len(runs)) == (1, 1)
    set_optimizer_state_dict(model, optimizer, saved)
    assert (optimizer.own_state.steps, len(runs)) == (1, 1)
    assert not torch.equal(model.weight, weights)


def test_state_dict_hooks_run_once_in_both_directions() -> None:
    optimizer = PerturbedOptimizer(adamw(dense_problem()))
    seen: list[str] = []
    optimizer.register_state_dict_pre_hook(lambda _: seen.append("pre save"))
    optimizer.register_state_dict_post_hook(lambda *_: seen.append("post save"))
    optimizer.register_load_state_dict_pre_hook(lambda *_: seen.append("pre load"))
    optimizer.register_load_state_dict_post_hook(lambda _: seen.append("post load"))
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    optimizer.load_state_dict(torch.load(buffer, weights_only=True))
    assert seen == ["pre save", "post save", "pre load", "post load"]


GOOD = {"format": 2, "steps": 3, "due": 2, "applied": 1, "skipped": 0, "circuits": 4, "memory": {}}
CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "newer": ({"format": 3}, r"saved in format 3, and this version reads up to 2. Update light"),
    "no format": ({"format": 0}, r"`format` is 0 instead of a positive integer.*damaged"),
    "a format that is true": ({"format": True}, r"`format` is True instead of"),
    "a format of text": ({"format": "2"}, r"`format` is '2' instead of"),
    "unknown key": ({"surprise": 1}, r"`surprise` is not known.*damaged, or newer than this ver"),
    "true for a counter": ({"due": True}, r"`due` is True instead of a non-negative integer"),
    "tensor for a counter": (
        {"due": torch.tensor(1)},
        r"`due` is tensor\(1\) instead of a non-neg",
    ),
    "none for a counter": ({"circuits": None}, r"`circuits` is None instead of a non-negative"),
    "memory of numbers": ({"memory": {"a": 1}}, r"`memory` is {'a': 1} instead of tensors by name"),
    "memory that is a list": ({"memory": []}, r"`memory` is \[\] instead of tensors by name"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_state_is_refused_by_name_and_nothing_is_loaded(change: str) -> None:
    changes, message = CHANGED[change]
    optimizer = PerturbedOptimizer(adamw(dense_problem()))
    before = optimizer.own_state.to_dict()
    with pytest.raises(ValueError, match=f"Cannot load the perturbation's state: .*{message}"):
        optimizer.own_state.load({**GOOD, **changes})
    assert optimizer.own_state.to_dict() == before


@pytest.mark.parametrize("missing", ["steps", "due", "applied", "skipped", "circuits"])
def test_a_missing_counter_is_refused(missing: str) -> None:
    state = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(ValueError, match=f"`{missing}` is None instead of a non-negative integer"):
        PerturbedOptimizer(adamw(dense_problem())).own_state.load(state)


@pytest.mark.parametrize(
    "older",
    [
        {"steps": 3, "due": 2, "applied": 1},
        {"steps": 3, "due": 2, "applied": 1, "skipped": 0, "circuits": 4},
    ],
)
def test_states_of_older_versions_are_read(older: dict[str, int]) -> None:
    state = PerturbedOptimizer(adamw(dense_problem())).own_state
    state.load(older)
    assert state.to_dict() == {"format": 2, "skipped": 0, "circuits": 0, **older}
