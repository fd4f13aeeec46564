"""Runs of a seed are told apart by their batches and by their random generators."""

import random

import numpy as np
import pytest
import torch

from lightning_qsgd.cli.job_cli import FIRST_BATCHES, MemoryLogger, PairingCallback
from lightning_qsgd.training.first_weights import hashed_weights

X = torch.arange(6.0).reshape(2, 3)


def order_of(*batches):
    callback = PairingCallback()
    for number, batch in enumerate(batches):
        callback.on_train_batch_start(None, None, batch, number)
    return callback.data_order


def test_equal_batches_in_equal_order_have_one_hash():
    assert order_of(X, X + 1) == order_of(X.clone(), X + 1)


@pytest.mark.parametrize(
    "other",
    [
        (X + 1, X),
        (X,),
        (X, X + 1, X),
        (X, (X + 1).double()),
        (X, (X + 1).reshape(3, 2)),
        (X, [X + 1]),
        (X, {"x": X + 1}),
        (X, "text"),
        (X, None),
    ],
)
def test_another_batch_order_type_or_shape_has_another_hash(other):
    assert order_of(*other) != order_of(X, X + 1)


def test_nested_batches_are_hashed_to_the_leaf():
    ours = {"x": [X, (X, 3)], "mask": None}
    assert order_of(ours) == order_of({"x": [X.clone(), (X, 3)], "mask": None})
    assert order_of(ours) != order_of({"x": [X, (X, 4)], "mask": None})


def test_an_object_without_content_is_hashed_by_its_type():
    assert order_of(object()) == order_of(object())


def test_only_the_first_batches_count():
    same = [X] * FIRST_BATCHES
    assert order_of(*same, X + 1) == order_of(*same)
    assert order_of(*same[1:], X + 1) != order_of(*same)


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(1), lambda: np.random.rand(), lambda: random.random()],  # noqa: NPY002
)
def test_a_draw_from_any_generator_changes_the_random_state(draw):
    callback = PairingCallback()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    python_state = random.getstate()
    states = []
    for act in (lambda: None, lambda: None, draw):
        act()
        callback.on_train_start(None, None)
        states.append(callback.random_state)
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)
    assert states[0] == states[1] != states[2]


class Net(torch.nn.Module):
    """A layer, a frozen one and a buffer; every value follows from the constant."""

    def __init__(self, value, shape=(2, 3)):
        super().__init__()
        self.layer = torch.nn.Parameter(torch.full(shape, value))
        self.frozen = torch.nn.Parameter(torch.ones(()), requires_grad=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def test_every_tensor_is_hashed_on_its_own_and_trainable_numbers_are_counted():
    first = hashed_weights(Net(1.0))
    assert first == hashed_weights(Net(1.0))
    assert (set(first.hashes), first.parameters) == ({"layer", "frozen", "count"}, 6)


@pytest.mark.parametrize("other", [Net(2.0), Net(1.0, (3, 2)), Net(1.0).double()])
def test_another_value_shape_or_precision_changes_the_hash_of_its_tensor_alone(other):
    ours, theirs = hashed_weights(Net(1.0)).hashes, hashed_weights(other).hashes
    assert ours["layer"] != theirs["layer"]
    assert ours["count"] == theirs["count"]


def test_logger_keeps_every_point():
    logger = MemoryLogger()
    logger.log_metrics({"a": 1.0, "b": 2.0}, step=1)
    logger.log_metrics({"a": 3.0})
    logger.log_hyperparams({"lr": 0.1})
    assert logger.points == {"a": [(1, 1.0), (-1, 3.0)], "b": [(1, 2.0)]}
    assert (logger.name, logger.version) == ("memory", 0)
