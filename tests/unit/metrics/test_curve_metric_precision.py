"""The curve stays in float64 and on the device of its metric."""

import pytest
import torch
from torch import nn

from lightning_qsgd.metrics.curve_metric import _float64_device


def test_the_result_is_a_float64_scalar_and_not_differentiable(make):
    metric = make()
    metric.update(torch.tensor(0.5, requires_grad=True), 100)

    result = metric.compute()

    assert result.shape == ()
    assert result.dtype == torch.float64
    assert not result.requires_grad
    assert make().is_differentiable is False
    assert make().full_state_update is False


@pytest.mark.parametrize("method", ["update", "forward"])
def test_a_recorded_loss_does_not_keep_its_graph_alive(make, method):
    metric = make()

    getattr(metric, method)(2 * torch.tensor(0.5, requires_grad=True), 100)

    assert not metric.values[0].requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_values_of_any_precision_are_recorded_unchanged(make, dtype, planted_points, filled):
    values = [torch.tensor(value, dtype=dtype) for value, _ in planted_points()]
    steps = [step for _, step in planted_points()]

    from_tensors = filled(make, zip(values, steps, strict=True))
    from_floats = filled(make, zip(map(float, values), steps, strict=True))

    assert torch.equal(from_tensors.compute(), from_floats.compute())


@pytest.mark.parametrize(
    "convert",
    [
        lambda m: m.to(torch.bfloat16),
        lambda m: m.half(),
        lambda m: m.set_dtype(torch.float32),
        lambda m: nn.ModuleList([m]).to(torch.float16)[0],
    ],
)
def test_model_precision_never_rounds_the_curve(make, convert, planted_points, filled, state_of):
    metric = convert(filled(make))
    metric.update(0.25, 16777217)

    expected = filled(make, [*planted_points(), (0.25, 16777217)])
    assert state_of(metric) == state_of(expected)
    assert torch.equal(metric.compute(), expected.compute())
    assert metric.dtype == torch.float64


def test_states_follow_the_metric_to_another_device(make, filled):
    metric = filled(make).to("meta")

    assert {chunk.device.type for chunk in metric.steps + metric.values} == {"meta"}
    assert metric.device.type == "meta"


def test_a_checkpoint_read_to_the_cpu_moves_to_the_device_of_the_metric(make, filled):
    metric = make().to("meta")
    metric.load_state_dict(filled(make).state_dict())

    metric.update(torch.tensor(0.5, device="meta"), 1000)

    assert {chunk.device.type for chunk in metric.steps + metric.values} == {"meta"}


def test_a_device_without_float64_leaves_the_curve_on_the_cpu():
    assert _float64_device(torch.device("mps")) == torch.device("cpu")
    assert _float64_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
