"""A step's measurements become scalars with fixed tags."""

import math
from dataclasses import replace

import pytest
import torch

from lightning_qsgd.optimizers.report import StepReport, measure
from lightning_qsgd.tracking import report_scalars


def report_of(added=(3.0, 4.0, 0.0), base_step=(0.0, 10.0, 0.0), base_sum=400.0):
    sums = measure(
        torch.tensor(added, dtype=torch.float64), torch.tensor(base_step, dtype=torch.float64)
    )
    whole = None if base_sum is None else torch.tensor(base_sum, dtype=torch.float64)
    return StepReport(touched=3, total=12, circuits=7, seconds=0.02, sums=sums, base_sum=whole)


def test_every_measured_quantity_has_its_tag():
    assert report_scalars(report_of(), step_seconds=0.1) == pytest.approx(
        {
            "perturbation/relative_size": 0.5,
            "perturbation/model_relative_size": 0.25,
            "perturbation/cosine": 0.8,
            "perturbation/touched_share": 0.25,
            "perturbation/zero_share": 1 / 3,
            "perturbation/circuits": 7.0,
            "perturbation/seconds": 0.02,
            "perturbation/share_of_step": 0.2,
        }
    )


def test_what_was_learned_has_its_tag():
    report = replace(report_of(), strength_factor=0.0, weights_change=0.3)
    scalars = report_scalars(report, 0.1)

    assert scalars["perturbation/strength_factor"] == 0.0
    assert scalars["perturbation/weights_change"] == 0.3
    assert len(scalars) == 10


def test_all_values_are_floats():
    assert {type(value) for value in report_scalars(report_of(), 0.1).values()} == {float}


def test_a_size_that_was_not_measured_is_left_out():
    scalars = report_scalars(report_of(base_sum=None), 0.1)

    assert "perturbation/model_relative_size" not in scalars
    assert len(scalars) == 7


def test_an_undefined_cosine_is_left_out():
    scalars = report_scalars(report_of(added=(0.0, 0.0, 0.0)), 0.1)

    assert "perturbation/cosine" not in scalars
    assert scalars["perturbation/relative_size"] == 0.0
    assert scalars["perturbation/zero_share"] == 1.0


def test_an_infinite_relative_size_is_kept():
    scalars = report_scalars(report_of(base_step=(0.0, 0.0, 0.0)), 0.1)

    assert scalars["perturbation/relative_size"] == math.inf


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
def test_a_step_without_duration_is_refused(seconds):
    with pytest.raises(ValueError, match=r"`step_seconds` to be above 0, got .*perf_counter"):
        report_scalars(report_of(), seconds)
