"""Any config becomes a flat table that TensorBoard accepts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard.summary import hparams

from lightning_qsgd.tracking import flatten_config

CONFIG = {
    "base": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3, "betas": [0.9, 0.999]}},
    "perturb": True,
    "seed": None,
    "num_qubits": 4,
    "root": Path("runs"),
    "schedule": {},
    1: torch.tensor(2.0),
    "scale": np.float32(0.5),
}


def test_nested_keys_are_joined_and_values_made_legal():
    assert flatten_config(CONFIG) == {
        "base/class_path": "torch.optim.AdamW",
        "base/init_args/lr": 1e-3,
        "base/init_args/betas": "[0.9, 0.999]",
        "perturb": True,
        "seed": "none",
        "num_qubits": 4,
        "root": "runs",
        "schedule": "{}",
        "1": "tensor(2.)",
        "scale": "0.5",
    }


def test_truth_values_are_not_turned_into_numbers():
    assert flatten_config({"perturb": True})["perturb"] is True


def test_tensorboard_accepts_the_table():
    hparams(flatten_config(CONFIG), {"final/val/loss": 0.5})


def test_the_config_is_left_alone():
    config = {"a": {"b": [1]}}

    flatten_config(config)

    assert config == {"a": {"b": [1]}}


def test_an_empty_config_is_an_empty_table():
    assert flatten_config({}) == {}


@pytest.mark.parametrize("config", [{"a/b": 1, "a": {"b": 2}}, {1: "x", "1": "y"}])
def test_two_values_with_one_name_are_refused(config):
    with pytest.raises(ValueError, match=r"two of its values are called '.*Rename the key"):
        flatten_config(config)
