"""The check of backends against each other must see a backend that is wrong."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from torch import Tensor

from lightning_qsgd.backends import CompiledBackend, SamplerBackend, SineBackend
from lightning_qsgd.backends.agreement import TOLERANCES, Answer, Question, answer
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit

CIRCUIT = SuperpositionCircuit(2)


@dataclass(frozen=True)
class OffBackend(CompiledBackend):
    """A backend whose readout is wrong by a thousandth, and its gradient by a factor."""

    def readout(
        self, inputs: Tensor, keys: np.ndarray | None = None, weights: Tensor | None = None
    ) -> Tensor:
        return super().readout(inputs, keys, weights) * 1.001


def test_question_is_a_function_of_its_seed() -> None:
    first, again, other = (Question.random(CompiledBackend(CIRCUIT), 3, s) for s in (0, 0, 1))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.weights, again.weights)
    assert not torch.equal(first.inputs, other.inputs)
    assert first.cotangent.abs().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_compiled_backend_agrees_with_the_reference(dtype: torch.dtype) -> None:
    question = Question.random(CompiledBackend(CIRCUIT), 5, 0)
    reference = answer(SamplerBackend(CIRCUIT), question)
    readout, gradient = answer(CompiledBackend(CIRCUIT), question, dtype).difference(reference)
    assert gradient is not None
    assert max(readout, gradient) <= TOLERANCES[dtype]


def test_a_wrong_backend_is_seen_in_readout_and_gradient() -> None:
    question = Question.random(CompiledBackend(CIRCUIT), 5, 0)
    right, wrong = (answer(kind(CIRCUIT), question) for kind in (CompiledBackend, OffBackend))
    readout, gradient = wrong.difference(right)
    assert gradient is not None
    assert readout > TOLERANCES[torch.float64]
    assert gradient > TOLERANCES[torch.float64]


def test_a_closed_form_is_asked_for_its_inputs_and_shots_for_no_gradient() -> None:
    question = Question.random(CompiledBackend(CIRCUIT), 5, 0)
    assert answer(CompiledBackend(CIRCUIT), question).gradients.keys() == {"inputs", "weights"}
    assert answer(SineBackend(2), question).gradients.keys() == {"inputs"}
    drawn = answer(SamplerBackend(CIRCUIT, sampling=16), question)
    assert drawn.gradients == {}
    assert drawn.difference(drawn) == (0.0, None)


def test_a_gradient_by_inputs_alone_can_tell_two_backends_apart() -> None:
    question = Question.random(CompiledBackend(CIRCUIT), 5, 0)
    right = answer(CompiledBackend(CIRCUIT), question)
    wrong = Answer(right.readout, {**right.gradients, "inputs": right.gradients["inputs"] + 1e-3})
    readout, gradient = wrong.difference(right)
    assert readout == 0.0
    assert gradient == pytest.approx(1e-3)


def test_qubits_that_are_not_read_out_are_compared_too() -> None:
    readout = torch.zeros(1, 1, dtype=torch.float64)
    one, other = (
        Answer(readout, {}, torch.tensor([each]).double())
        for each in ([0.5, 0.5, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5])
    )
    assert one.difference(other) == (0.5, None)
    x = Parameter("x")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    circuit.ry(2 * x, 1)
    backend = CompiledBackend(ParametrizedCircuit(circuit, [x]))
    given = answer(backend, Question.random(backend, rows=3, seed=0))
    assert given.probabilities is not None
    assert given.probabilities.shape == (3, 4)
