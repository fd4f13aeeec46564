"""Runs of a seed are told apart by their batches and by their random generators."""

import random
from collections import deque, namedtuple
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch.nn.utils.rnn import pack_sequence
from transformers import BatchEncoding

from lightning_qsgd.cli.job_cli import MemoryLogger
from lightning_qsgd.training.first_weights import FIRST_BATCHES, PairingCallback, hashed_weights
from lightning_qsgd.training.recorded_run import require_pair

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


@dataclass
class Pair:
    x: Any
    y: Any


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


class Colour(Enum):
    RED = 1
    BLUE = 2


def sparse(value):
    return torch.tensor([[0.0, value], [2.0, 0.0]])


KINDS = {
    "BatchEncoding": lambda value: BatchEncoding({"x": torch.tensor([value])}),
    "dataclass": lambda value: Pair(X, torch.tensor([value])),
    "dataclass in a dataclass": lambda value: Pair(X, Pair(value, X)),
    "named tuple": lambda value: namedtuple("Point", "x y")(X, np.array([value])),
    "packed sequence": lambda value: pack_sequence([torch.tensor([value, 2.0])]),
    "ndarray": lambda value: np.array([[value, 2.0]]).T,
    "ndarray of objects": lambda value: np.array([{"x": torch.tensor(value)}, None]),
    "numpy scalar": lambda value: np.float32(value),
    "object": lambda value: SimpleNamespace(x=X, inner=SimpleNamespace(y=torch.tensor(value))),
    "object with slots": lambda value: Slotted(torch.tensor(value)),
    "set": lambda value: {"a", "b", value},
    "deque": lambda value: deque([X, value]),
    "enum": lambda value: Colour(int(value)),
    "path": lambda value: Path(str(value)),
    "date": lambda value: date(2000, 1, int(value)),
    "coo": lambda value: sparse(value).to_sparse(),
    "csr": lambda value: sparse(value).to_sparse_csr(),
    "csc": lambda value: sparse(value).to_sparse_csc(),
    "bsr": lambda value: sparse(value).to_sparse_bsr((1, 1)),
    "huge": lambda value: torch.sparse_coo_tensor([[5], [7]], [value], (10**7, 10**7)),
    "nested": lambda value: torch.nested.nested_tensor([X[0], torch.tensor([value])]),
    "conjugate": lambda value: torch.complex(X, X * value).conj(),
    "negative": lambda value: torch.complex(X, X * value).conj().imag,
    "quantized": lambda value: torch.quantize_per_tensor(X * value, 0.1, 0, torch.qint8),
    "bfloat16": lambda value: torch.tensor(value, dtype=torch.bfloat16),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta state")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor.*")
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_whatever_a_batch_is_made_of_its_content_is_seen(make):
    assert order_of(make(1.0)) == order_of(make(1.0)) != ""
    assert order_of(make(1.0)) != order_of(make(2.0))


def test_a_view_and_its_copy_are_alike():
    z = torch.complex(X, X + 1)
    assert order_of(z.conj()) == order_of(z.conj().resolve_conj())
    assert order_of(z.conj()) != order_of(z)
    twice = torch.sparse_coo_tensor([[0, 0], [1, 1]], [0.5, 0.5], (2, 2))
    assert order_of(twice) == order_of(twice.coalesce())


@pytest.mark.parametrize(
    "unseen", [object(), iter([X]), lambda: X], ids=["object", "iterator", "f"]
)
def test_a_batch_that_cannot_be_seen_is_not_called_equal(unseen):
    assert order_of({"x": X, "more": unseen}) == ""


def test_a_callback_forgets_the_batches_of_an_earlier_fit():
    callback, orders = PairingCallback(), []
    for _ in range(2):
        callback.on_fit_start(None, None)
        callback.on_train_batch_start(None, None, X, 0)
        orders.append(callback.data_order)
    assert orders == [order_of(X)] * 2


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


def test_a_buffer_that_is_not_stored_is_hashed_beside_the_others():
    def made(value):
        net = Net(1.0)
        net.register_buffer("drawn", torch.full((2,), value), persistent=False)
        return hashed_weights(net)

    first, other = made(1.0), made(2.0)
    assert set(first.buffers) == {"drawn"}
    assert first.hashes == hashed_weights(Net(1.0)).hashes  # runs stored before agree with them
    require_pair(first, made(1.0))
    require_pair(first, hashed_weights(Net(1.0)))
    with pytest.raises(RuntimeError, match=r"The baseline started from other weights \(drawn\)"):
        require_pair(first, other)


def test_logger_keeps_every_point():
    logger = MemoryLogger()
    logger.log_metrics({"a": 1.0, "b": 2.0}, step=1)
    logger.log_metrics({"a": 3.0})
    logger.log_hyperparams({"lr": 0.1})
    assert logger.points == {"a": [(1, 1.0), (-1, 3.0)], "b": [(1, 2.0)]}
    assert (logger.name, logger.version) == ("memory", 0)


def validated(callback, batches, fn=TrainerFn.FITTING, sanity_checking=False):
    """Let a callback watch a validation; loaders come one after the other."""
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn=fn),
        sanity_checking=sanity_checking,
        num_val_batches=[len(own) for own in batches],
    )
    callback.on_validation_start(trainer, None)
    for loader, own in enumerate(batches):
        for number, batch in enumerate(own):
            callback.on_validation_batch_start(trainer, None, batch, number, loader)
    return callback


def measured(*loaders, before=None):
    """What a run keeps of its closing validation, after a sanity check and a whole validation."""
    sanity = [[X + 99] * min(len(own), 2) for own in loaders]
    callback = validated(PairingCallback(), sanity, sanity_checking=True)
    validated(callback, before or loaders)
    validated(callback, loaders, TrainerFn.VALIDATING)
    return callback.validation_batches, callback.validation_data


LONG = [X + number for number in range(20)]


def test_equal_validation_data_have_one_hash():
    assert measured(LONG) == measured([batch.clone() for batch in LONG])
    assert measured(LONG)[0] == "20"
    assert measured(LONG, LONG[:3])[0] == "20+3"


@pytest.mark.parametrize(
    "other", [[*LONG[:19], X], [X + 30, *LONG[1:]], [*LONG[:7], X + 30, *LONG[8:]]]
)
def test_other_batches_of_the_same_number_have_another_hash(other):
    (ours, hashed), (theirs, other_hash) = measured(LONG), measured(other)
    assert ours == theirs
    assert "" != hashed != other_hash != ""


def test_a_second_loader_counts():
    assert measured(LONG, [X])[1] != measured(LONG, [X + 1])[1]


def test_fewer_validation_batches_are_seen_though_they_begin_alike():
    assert measured(LONG[:5])[0] != measured(LONG[:3])[0]


@pytest.mark.parametrize("changed", [0, 5, 19])
def test_of_a_random_validation_the_number_of_batches_counts_alone(changed):
    other = [*LONG]
    other[changed] = X + 50
    assert measured(LONG, before=[other]) == ("20", "")
    assert measured(LONG, LONG, before=[LONG, other]) == ("20+20", "")


def test_a_sanity_check_stands_for_validations_that_a_short_run_does_not_have():
    def short(sanity):
        callback = validated(PairingCallback(), [sanity], sanity_checking=True)
        validated(callback, [LONG], TrainerFn.VALIDATING)
        return callback.validation_data

    assert short(LONG[:2]) == measured(LONG)[1] != ""
    assert short([LONG[0], X + 50]) == ""


def test_what_a_module_writes_into_its_batches_is_not_of_the_data():
    def own(outputs):
        batches = [{"x": X + number} for number in range(12)]
        callback = PairingCallback()
        for fn in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            trainer = SimpleNamespace(
                state=SimpleNamespace(fn=fn), sanity_checking=False, num_val_batches=[12]
            )
            fresh = [dict(batch) for batch in batches]
            callback.on_validation_start(trainer, None)
            for number, batch in enumerate(fresh):
                callback.on_validation_batch_start(trainer, None, batch, number)
                batch["logits"] = batch["x"] * outputs
        return callback.validation_batches, callback.validation_data

    assert own(2.0) == own(3.0)
    assert own(2.0)[1]


def test_validation_data_that_cannot_be_compared_or_seen_are_unknown():
    callback = validated(PairingCallback(), [LONG], TrainerFn.VALIDATING)
    assert (callback.validation_batches, callback.validation_data) == ("20", "")
    assert measured([object()] * 2) == ("2", "")
    assert (PairingCallback().validation_batches, PairingCallback().validation_data) == ("", "")


def test_validations_of_an_earlier_fit_are_forgotten():
    callback = validated(PairingCallback(), [[X + 7]])
    callback.on_fit_start(None, None)
    validated(validated(callback, [LONG]), [LONG], TrainerFn.VALIDATING)
    assert (callback.validation_batches, callback.validation_data) == measured(LONG)
