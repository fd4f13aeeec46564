"""Counts of a batch, as qiskit's own containers return them."""

import numpy as np
import pytest
from qiskit.primitives import BitArray

from lightning_qsgd.backends.plugins.vectorized_sampler import OutcomeData, OutcomeTable

VALUES = np.array([[[3, 0, 1, 0], [0, 4, 0, 0]], [[1, 1, 1, 1], [2, 0, 0, 2]]])


def as_bit_array() -> BitArray:
    shots = [[np.repeat(np.arange(4), row) for row in rows] for rows in VALUES]
    return BitArray(np.array(shots, dtype=np.uint8)[..., None], num_bits=2)


@pytest.mark.parametrize("loc", [None, (0, 0), (0, 1), (1, 0), (1, 1)])
def test_counts_are_those_of_a_bit_array(loc: tuple[int, int] | None) -> None:
    table = OutcomeTable(VALUES, num_shots=4)
    assert table.get_counts(loc) == as_bit_array().get_counts(loc)
    assert table.get_int_counts(loc) == as_bit_array().get_int_counts(loc)


def test_shape_and_bits_are_those_of_a_bit_array() -> None:
    table, bits = OutcomeTable(VALUES, num_shots=4), as_bit_array()
    assert (table.shape, table.num_bits, table.num_shots) == (bits.shape, bits.num_bits, 4)


def test_probabilities_add_up_to_one() -> None:
    table = OutcomeTable(VALUES, num_shots=4)
    np.testing.assert_array_equal(table.probabilities, VALUES / 4)


def test_lone_circuit_is_found_at_zero_as_networks_ask_for_it() -> None:
    table = OutcomeTable(np.array([0.25, 0.75]), num_shots=None)
    assert (
        table.get_counts(0) == table.get_counts() == table.get_counts(()) == {"0": 0.25, "1": 0.75}
    )


@pytest.mark.parametrize(("shape", "loc"), [((3,), 3), ((3,), np.int64(3)), ((), 1)])
def test_circuits_that_are_not_there_are_refused(shape: tuple[int, ...], loc: int) -> None:
    with pytest.raises((IndexError, ValueError), match=r"range|invalid entry"):
        OutcomeTable(np.ones((*shape, 2)), num_shots=2).get_counts(loc)


def test_data_holds_its_register_and_integer_counts() -> None:
    table = OutcomeTable(VALUES, num_shots=4)
    data = OutcomeData("out", {"out": table})
    assert list(data) == ["out"]
    assert data.out is data["out"] is table
    assert data.shape == (2, 2)
    assert data.get_counts((0, 0)) == {0: 3, 2: 1}
