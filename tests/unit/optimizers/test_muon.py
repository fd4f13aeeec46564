"""Muon with AdamW in one optimizer."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon

from lightning_qsgd import ConfiguredPerturbedOptimizer, ExactMuonWithAdamW, MuonWithAdamW
from lightning_qsgd.optimizers.muon import newton_schulz

RATES = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(11, 6), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5), nn.Linear(5, 3)
    )


def backward(model: nn.Module, step: int) -> Tensor:
    tokens = torch.randint(0, 11, (16,), generator=torch.Generator().manual_seed(step))
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(tokens), tokens % 3)
    loss.backward()
    return loss


def train(model: nn.Module, *optimizers: Any, steps: int = 6, first: int = 0) -> None:
    for step in range(first, first + steps):
        backward(model, step)
        for optimizer in optimizers:
            optimizer.step()


def assert_equal(model: nn.Module, other: nn.Module) -> None:
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("adjust", [None, "original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_it_equals_muon_and_adamw_side_by_side_to_the_last_bit(
    nesterov: bool, adjust: str | None
) -> None:
    ours, theirs = network(), network()
    optimizer = MuonWithAdamW(ours.parameters(), **RATES, adamw_lr=3e-3)
    optimizer.param_groups[0].update(nesterov=nesterov, adjust_lr_fn=adjust)
    hidden = [theirs[1].weight, theirs[3].weight]
    rest = [theirs[0].weight, theirs[1].bias, theirs[3].bias, *theirs[4].parameters()]
    pair = (
        Muon(hidden, nesterov=nesterov, adjust_lr_fn=adjust, **RATES),
        AdamW(rest, lr=3e-3, weight_decay=0.1),
    )
    train(ours, optimizer)
    train(theirs, *pair)
    assert_equal(ours, theirs)


def test_kernels_are_flattened_after_their_output_channels() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(kernel.detach().reshape(4, 12).clone())
    ours, theirs = MuonWithAdamW([kernel], **RATES, others=[]), Muon([matrix], **RATES)
    for _ in range(3):
        kernel.grad = torch.randn(4, 3, 2, 2)
        matrix.grad = kernel.grad.reshape(4, 12).clone()
        ours.step()
        theirs.step()
    assert torch.equal(kernel.reshape(4, 12), matrix)


def test_the_exact_sign_has_singular_values_of_one() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(7, 4, dtype=torch.float64)
    direction = ExactMuonWithAdamW([nn.Parameter(matrix)], others=[]).orthogonalized(matrix, {})
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(direction, u @ v, atol=1e-10, rtol=0.0)


def test_the_exact_sign_hides_no_gradient_that_is_not_finite() -> None:
    matrix = torch.ones(3, 4)
    matrix[0, 0] = torch.nan
    direction = ExactMuonWithAdamW([nn.Parameter(matrix)], others=[]).orthogonalized(matrix, {})
    assert direction.isnan().all()


def test_newton_and_schulz_come_close_to_the_exact_sign() -> None:
    torch.manual_seed(0)
    settings = ((3.4445, -4.7750, 2.0315), 5, 1e-7)
    for shape in ((8, 8), (5, 12), (12, 5)):
        matrix = torch.randn(shape).bfloat16()
        singular = torch.linalg.svdvals(newton_schulz(matrix, *settings).float())
        assert 0.3 < singular.min() < singular.max() < 1.3


def test_an_iteration_in_float32_is_closer_than_one_in_bfloat16() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(40, 60)
    settings = ((3.4445, -4.7750, 2.0315), 5, 1e-7)
    exact = newton_schulz(matrix.double(), *settings)
    errors = {}
    for name in ("bfloat16", "float32"):
        optimizer = MuonWithAdamW([nn.Parameter(matrix)], others=[], iteration_dtype=name)
        direction = optimizer.orthogonalized(matrix, optimizer.param_groups[0])
        errors[name] = (direction.double() - exact).norm() / exact.norm()
    assert errors["float32"] < 1e-5
    assert errors["bfloat16"] > 1e-3


def test_an_unknown_type_of_the_iteration_is_refused_and_an_old_checkpoint_is_not() -> None:
    with pytest.raises(ValueError, match="Unknown `iteration_dtype` 'float16'"):
        MuonWithAdamW(network().parameters(), iteration_dtype="float16")
    model = network()
    optimizer = MuonWithAdamW(model.parameters(), **RATES)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["iteration_dtype"]
    optimizer.load_state_dict(state)
    reference = network()
    train(model, optimizer, steps=2)
    train(reference, MuonWithAdamW(reference.parameters(), **RATES), steps=2)
    assert_equal(model, reference)


def test_maximize_climbs_where_the_other_direction_descends() -> None:
    start = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    up, down = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    for parameter, maximize in ((up, True), (down, False)):
        optimizer = MuonWithAdamW([parameter], weight_decay=0.0, others=[])
        optimizer.param_groups[0]["maximize"] = maximize
        parameter.grad = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
        optimizer.step()
    torch.testing.assert_close(up - start, start - down)


@pytest.mark.parametrize("copy", ["state dict", "deepcopy"])
def test_a_resumed_run_equals_an_uninterrupted_one(copy: str) -> None:
    whole, cut = network(), network()
    train(whole, MuonWithAdamW(whole.parameters(), **RATES), steps=6)
    optimizer = MuonWithAdamW(cut.parameters(), **RATES)
    train(cut, optimizer, steps=3)
    if copy == "deepcopy":
        cut, optimizer = deepcopy((cut, optimizer))
    else:
        state = optimizer.state_dict()
        optimizer = MuonWithAdamW(cut.parameters(), lr=9.0)
        optimizer.load_state_dict(state)
    train(cut, optimizer, steps=3, first=3)
    assert_equal(whole, cut)


def test_a_scheduler_moves_both_learning_rates() -> None:
    model = network()
    optimizer = MuonWithAdamW(model.parameters(), lr=0.1, adamw_lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    train(model, optimizer, scheduler, steps=1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.005]
    reference = network()
    halved = MuonWithAdamW(reference.parameters(), lr=0.1, adamw_lr=0.01)
    train(reference, halved, steps=1)
    for group in halved.param_groups:
        group["lr"] *= 0.5
    train(model, optimizer, steps=1, first=1)
    train(reference, halved, steps=1, first=1)
    assert_equal(model, reference)


def test_a_perturbed_one_of_strength_zero_is_itself() -> None:
    from lightning_qsgd import Perturbation

    ours, theirs = network(), network()
    wrapped = ConfiguredPerturbedOptimizer(
        ours.parameters(), base=MuonWithAdamW, perturbation=Perturbation(strength=0.0)
    )
    train(ours, wrapped)
    train(theirs, MuonWithAdamW(theirs.parameters()))
    assert_equal(ours, theirs)


def test_groups_may_say_what_they_are() -> None:
    matrix, vector = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(3))
    table = nn.Parameter(torch.ones(5, 3))
    groups = [
        {"params": [matrix], "orthogonalize": True, "lr": 0.5},
        {"params": [table, vector], "orthogonalize": False, "lr": 0.25},
    ]
    optimizer = MuonWithAdamW(groups)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "orthogonalize": False})
    assert [group["eps"] for group in optimizer.param_groups] == [1e-7, 1e-8, 1e-8]


def test_parameters_may_come_with_their_names() -> None:
    optimizer = MuonWithAdamW(network().named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["1.weight", "3.weight"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "Expected `lr` to be non-negative and finite, got -1.0"),
        ({"adamw_lr": float("inf")}, "Expected `adamw_lr` to be non-negative and finite, got inf"),
        ({"momentum": 1.0}, r"Expected `momentum` in \[0, 1\), got 1.0"),
        ({"others": [4]}, r"Expected `others` to name positions among 4 matrices, got 4"),
        ({"others": [0, 1, 2, 3]}, r"No matrix is left for Muon: of 4, `others` gives \[0, 1, 2"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MuonWithAdamW(network().parameters(), **settings)


def test_a_group_with_a_rate_is_not_divided() -> None:
    with pytest.raises(ValueError, match="Cannot divide a parameter group that sets `lr`"):
        MuonWithAdamW([{"params": list(network().parameters()), "lr": 0.1}])


def test_a_group_that_does_not_say_what_it_is_cannot_be_added() -> None:
    optimizer = MuonWithAdamW(network().parameters())
    with pytest.raises(ValueError, match="Cannot add a parameter group whose `orthogonalize` is"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))]})
    group = {"params": [nn.Parameter(torch.ones(2))], "orthogonalize": True}
    with pytest.raises(ValueError, match=r"Cannot orthogonalize parameters of shape \(2,\)"):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 2


def test_a_sparse_gradient_of_a_matrix_is_refused() -> None:
    parameter = nn.Parameter(torch.ones(3, 2))
    parameter.grad = torch.ones(3, 2).to_sparse()
    with pytest.raises(TypeError, match="Cannot orthogonalize a sparse gradient"):
        MuonWithAdamW([parameter], others=[]).step()
