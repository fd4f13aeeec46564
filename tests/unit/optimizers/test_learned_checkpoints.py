"""What was learned goes through checkpoints, copies and pickles bit for bit."""

import pickle
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.circuit.library import PauliEvolutionGate, PauliGate, StatePreparation
from qiskit.quantum_info import SparsePauliOp

from lightning_qsgd.backends import CompiledBackend, SineBackend
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.optimizers.perturbed import STATE_KEY
from lightning_qsgd.perturbations import (
    AllEntries,
    Coordinates,
    CyclicEntries,
    FirstOfModel,
    Injection,
    LargestGradient,
    Learning,
    Perturbation,
    RandomEntries,
    RelativeInjection,
    Strength,
    UpdateInjection,
)
from tests.cases import Problem, dense_problem, sparse_problem
from tests.learning_cases import Entangled, Noisy, TurnedSine, train

LEARNED = Perturbation(Noisy(), AllEntries(), learning=Learning(0.05, 0.3))
COORDINATES = [AllEntries(), CyclicEntries(), FirstOfModel(), LargestGradient(3), RandomEntries()]
INJECTIONS = [UpdateInjection(), RelativeInjection()]


def wrap(problem: Problem, perturbation: Perturbation = LEARNED) -> PerturbedOptimizer:
    base = torch.optim.AdamW(problem.parameters, lr=1e-2)
    return PerturbedOptimizer(base, perturbation)


def through_a_file(state: Any, path: Path) -> Any:
    torch.save(state, path)
    return torch.load(path, weights_only=True)


def copy_parameters(source: Problem, target: Problem) -> None:
    for left, right in zip(source.parameters, target.parameters, strict=True):
        right.data.copy_(left.data)


def learned(optimizer: PerturbedOptimizer) -> Any:
    return optimizer.own_state.learned


def assert_learned_the_same(left: PerturbedOptimizer, right: PerturbedOptimizer) -> None:
    assert learned(left).factor == learned(right).factor != 1.0
    if learned(left).weights is None:
        assert learned(right).weights is None
    else:
        assert torch.equal(learned(left).weights, learned(right).weights)


@pytest.mark.parametrize("learning", [Learning(0.05, 0.3), Learning(0.05)], ids=str)
@pytest.mark.parametrize("injection", INJECTIONS, ids=str)
@pytest.mark.parametrize("coordinates", COORDINATES, ids=str)
def test_resumed_run_learns_what_the_uninterrupted_one_does_bit_for_bit(
    coordinates: Coordinates, injection: Injection, learning: Learning, tmp_path: Path
) -> None:
    perturbation = replace(LEARNED, coordinates=coordinates, injection=injection, learning=learning)
    for dtype in (torch.float32, torch.float64):
        whole, first, second = (dense_problem(dtype) for _ in range(3))
        uninterrupted = wrap(whole, perturbation)
        train(whole, uninterrupted, 7)
        interrupted = wrap(first, perturbation)
        train(first, interrupted, 3)
        copy_parameters(first, second)
        resumed = wrap(second, perturbation)
        resumed.load_state_dict(through_a_file(interrupted.state_dict(), tmp_path / "state.pt"))
        train(second, resumed, 4)
        assert torch.equal(whole.flat(), second.flat())
        assert_learned_the_same(resumed, uninterrupted)


def test_a_run_is_resumed_between_two_due_steps(tmp_path: Path) -> None:
    perturbation = replace(LEARNED, strength=Strength(0.5, every=3))
    whole, first, second = (dense_problem() for _ in range(3))
    uninterrupted, interrupted = wrap(whole, perturbation), wrap(first, perturbation)
    train(whole, uninterrupted, 7)
    train(first, interrupted, 4)
    copy_parameters(first, second)
    resumed = wrap(second, perturbation)
    resumed.load_state_dict(through_a_file(interrupted.state_dict(), tmp_path / "state.pt"))
    train(second, resumed, 3)
    assert torch.equal(whole.flat(), second.flat())
    assert_learned_the_same(resumed, uninterrupted)


def test_sparse_gradients_are_resumed_as_well(tmp_path: Path) -> None:
    whole, first, second = (sparse_problem() for _ in range(3))

    def make(problem: Problem) -> PerturbedOptimizer:
        return PerturbedOptimizer(torch.optim.SparseAdam(problem.parameters, lr=0.01), LEARNED)

    uninterrupted, interrupted, resumed = make(whole), make(first), make(second)
    train(whole, uninterrupted, 5)
    train(first, interrupted, 2)
    copy_parameters(first, second)
    resumed.load_state_dict(through_a_file(interrupted.state_dict(), tmp_path / "state.pt"))
    train(second, resumed, 3)
    assert torch.equal(whole.flat(), second.flat())
    assert_learned_the_same(resumed, uninterrupted)


def test_without_the_pending_perturbation_a_resumed_run_would_differ() -> None:
    whole, first = dense_problem(), dense_problem()
    uninterrupted, interrupted = wrap(whole), wrap(first)
    train(whole, uninterrupted, 4)
    train(first, interrupted, 3)
    state = interrupted.state_dict()
    state[STATE_KEY]["learned"]["pending"] = None
    interrupted.load_state_dict(state)
    train(first, interrupted, 1)
    assert not torch.equal(whole.flat(), first.flat())


@pytest.mark.parametrize("coordinates", COORDINATES, ids=str)
@pytest.mark.parametrize("copy", [deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_continue_like_the_original(copy: Any, coordinates: Coordinates) -> None:
    problem = dense_problem()
    optimizer = wrap(problem, replace(LEARNED, coordinates=coordinates))
    train(problem, optimizer, 3)
    parameters, twin = copy((problem.parameters, optimizer))
    twin_problem = replace(problem, parameters=parameters)
    before = problem.flat()
    train(twin_problem, twin, 3)
    assert torch.equal(problem.flat(), before)
    train(problem, optimizer, 3)
    assert torch.equal(problem.flat(), twin_problem.flat())
    assert_learned_the_same(optimizer, twin)


def test_views_of_the_parameters_are_not_copied() -> None:
    problem = dense_problem()
    optimizer = wrap(problem)
    train(problem, optimizer, 1)
    assert learned(optimizer).pending.entries is not None
    assert pickle.loads(pickle.dumps(learned(optimizer))).pending.entries is None
    assert deepcopy(learned(optimizer)).pending.entries is None


def test_the_base_loads_the_state_of_a_learning_wrapper(tmp_path: Path) -> None:
    problem = dense_problem()
    optimizer = wrap(problem)
    train(problem, optimizer, 3)
    bare = torch.optim.AdamW(dense_problem().parameters, lr=1e-2)
    bare.load_state_dict(through_a_file(optimizer.state_dict(), tmp_path / "wrapped.pt"))
    moment = bare.state[bare.param_groups[0]["params"][0]]["exp_avg"]
    assert torch.equal(moment, optimizer.state[problem.parameters[0]]["exp_avg"])


@pytest.mark.parametrize("kind", ["base", "unlearned"])
def test_a_state_without_learning_keeps_what_is_learned_but_not_what_is_pending(kind: str) -> None:
    problem, other = dense_problem(), dense_problem()
    optimizer = wrap(problem)
    train(problem, optimizer, 3)
    before = learned(optimizer)
    saving = wrap(other, replace(LEARNED, learning=None))
    train(other, saving, 2)
    optimizer.load_state_dict(saving.base.state_dict() if kind == "base" else saving.state_dict())
    assert learned(optimizer).factor == before.factor != 1.0
    assert learned(optimizer).pending is None
    assert optimizer.own_state.steps == (3 if kind == "base" else 2)


def test_a_perturbation_that_learns_nothing_loads_a_state_that_does() -> None:
    problem = dense_problem()
    optimizer = wrap(problem)
    train(problem, optimizer, 3)
    fixed = wrap(dense_problem(), replace(LEARNED, learning=None))
    fixed.load_state_dict(optimizer.state_dict())
    assert fixed.own_state.learned is None
    assert fixed.own_state.steps == 3


def test_weights_may_be_learned_from_a_checkpoint_on_where_they_were_frozen() -> None:
    problem = dense_problem()
    frozen = wrap(problem, replace(LEARNED, learning=Learning(0.1)))
    train(problem, frozen, 3)
    optimizer = wrap(problem)
    optimizer.load_state_dict(frozen.state_dict())
    assert learned(optimizer).factor == learned(frozen).factor != 1.0
    assert torch.equal(learned(optimizer).weights, Noisy().initial_weights())
    train(problem, optimizer, 2)
    assert not torch.equal(learned(optimizer).weights, Noisy().initial_weights())


def test_saved_state_does_not_change_when_training_goes_on() -> None:
    problem = dense_problem()
    optimizer = wrap(problem)
    train(problem, optimizer, 3)
    state = optimizer.state_dict()[STATE_KEY]["learned"]
    copy = deepcopy(state)
    train(problem, optimizer, 3)
    assert state["factor"] == copy["factor"]
    assert torch.equal(state["weights"], copy["weights"])
    for name in ("direction", "coefficients", "inputs"):
        assert torch.equal(state["pending"][name], copy["pending"][name])


def damaged(**changes: Any) -> dict[str, Any]:
    """A saved state with some values replaced; dots reach into what is pending."""
    problem = dense_problem()
    optimizer = wrap(problem)
    train(problem, optimizer, 2)
    state = deepcopy(optimizer.state_dict())
    for name, value in changes.items():
        target = state[STATE_KEY]["learned"]
        if name in target:
            target[name] = value
        elif value is KeyError:
            del target["pending"][name]
        else:
            target["pending"][name] = value
    return state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": -1.0}, r"`factor` is -1.0 instead of a non-negative number.*load another one"),
        ({"factor": float("nan")}, r"`factor` is nan instead of"),
        ({"factor": "1"}, r"`factor` is '1' instead of"),
        ({"weights": torch.zeros(3)}, r"`weights` is tensor.* instead of 2 finite angles"),
        ({"weights": torch.full((2,), torch.nan)}, r"`weights` is .* instead of 2 finite angles"),
        ({"weights": [0.0, 0.0]}, r"`weights` is .* instead of 2 finite angles"),
        ({"pending": 3}, r"Cannot load the last perturbation.*damaged; load an earlier one"),
        ({"direction": torch.zeros(5)}, r"Cannot load the last perturbation.*expected 23 entries"),
        ({"direction": KeyError}, r"Cannot load the last perturbation.*KeyError"),
        ({"inputs": 1.0}, r"Cannot load the last perturbation"),
        ({"places": [[0, 3, [0, 23]]]}, r"Cannot load the last perturbation.*inside their tensors"),
        ({"step": "x"}, r"Cannot load the last perturbation"),
        ({"step": True}, r"Cannot load the last perturbation.*True instead of a non-negative"),
        ({"step": -1}, r"Cannot load the last perturbation.*-1 instead of a non-negative"),
        ({"places": [[-1, 23, [0, 23]]]}, r"-1 instead of a non-negative integer"),
        ({"places": [[0, 23, [-23, 0]]]}, r"-23 instead of a non-negative integer"),
        ({"places": [[0, 23, [5, 5]]]}, r"expected 0 entries inside their tensors"),
        ({"places": [[0, 23, torch.arange(-1, 22)]]}, r"inside their tensors"),
        ({"places": [[0, 23, torch.ones(23)]]}, r"inside their tensors"),
        ({"places": [[0, 12, [0, 12]], [0, 12, [0, 11]]]}, r"a parameter occurs twice"),
        ({"places": [[3, 23, [0, 23]]]}, r"lies in parameter 3, and the optimizer has 3.*another"),
        ({"direction": torch.zeros(23, dtype=torch.int64)}, r"expected floating-point numbers"),
    ],
)
def test_a_damaged_state_is_refused_and_nothing_is_loaded(
    changes: dict[str, Any], message: str
) -> None:
    problem = dense_problem()
    optimizer = wrap(problem)
    train(problem, optimizer, 3)
    before = learned(optimizer)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(damaged(**changes))
    assert learned(optimizer) is before
    assert optimizer.own_state.steps == 3


@pytest.mark.parametrize("place", ["learned", "pending"])
def test_an_unknown_key_in_what_was_learned_is_refused(place: str) -> None:
    state = damaged()
    saved = state[STATE_KEY]["learned"]
    (saved if place == "learned" else saved["pending"])["surprise"] = 1
    with pytest.raises(ValueError, match="`surprise` is not known"):
        wrap(dense_problem()).load_state_dict(state)


def circuits(entanglement: str, backend: Any = CompiledBackend) -> PerturbedOptimizer:
    circuit = SuperpositionCircuit(4, entanglement=entanglement)  # type: ignore[arg-type]
    learning = Learning(0.05, weights_rate=0.3)
    return wrap(dense_problem(), Perturbation(backend(circuit, weight_seed=0), learning=learning))


def test_weights_of_another_circuit_with_as_many_weights_are_refused_by_name() -> None:
    linear, full = circuits("linear"), circuits("full")
    names = [learned(optimizer).circuit for optimizer in (linear, full)]
    message = f"learned for circuit {names[0]}: this optimizer evaluates circuit {names[1]}"
    with pytest.raises(ValueError, match=f"{message}.*Build the same circuit, or start without"):
        full.load_state_dict(linear.state_dict())
    circuits("linear").load_state_dict(linear.state_dict())


def test_weights_saved_before_circuits_had_names_are_taken() -> None:
    state = circuits("linear").state_dict()
    del state[STATE_KEY]["format"], state[STATE_KEY]["learned"]["circuit"]
    circuits("full").load_state_dict(state)


def test_a_learned_state_that_is_no_dictionary_is_refused() -> None:
    state = damaged()
    state[STATE_KEY]["learned"] = 1
    with pytest.raises(ValueError, match="`factor` is None instead of"):
        wrap(dense_problem()).load_state_dict(state)


def test_weights_of_another_circuit_are_refused() -> None:
    problem = dense_problem()
    optimizer = wrap(problem, replace(LEARNED, backend=Entangled(num_qubits=3)))
    train(problem, optimizer, 2)
    with pytest.raises(ValueError, match=r"instead of 2 finite angles.*belongs to another circuit"):
        wrap(dense_problem()).load_state_dict(optimizer.state_dict())


def test_a_checkpoint_of_another_model_teaches_nothing() -> None:
    problem, other = dense_problem(), dense_problem(shapes=((12,), (2,), (9, 1), (4,)))
    optimizer, receiving = wrap(problem), wrap(other)
    train(problem, optimizer, 2)
    receiving.own_state.load(optimizer.own_state.to_dict())
    factor = learned(receiving).factor
    other.parameters[2].data = torch.ones(5, dtype=torch.float64)
    for parameter in other.parameters:
        parameter.grad = torch.ones_like(parameter)
    receiving.step()
    assert learned(receiving).factor == factor


def test_strength_alone_saves_neither_inputs_nor_weights() -> None:
    problem = dense_problem()
    optimizer = wrap(problem, Perturbation(SineBackend(), learning=Learning(0.1)))
    train(problem, optimizer, 2)
    saved = optimizer.state_dict()[STATE_KEY]["learned"]
    assert saved["weights"] is None
    assert saved["pending"]["inputs"] is saved["pending"]["coefficients"] is None
    assert saved["pending"]["places"] == [[0, 12, [0, 4]], [1, 2, [0, 2]], [2, 9, [0, 4]]]


def test_the_circuits_own_weights_are_never_written() -> None:
    backend = TurnedSine()
    problem = dense_problem()
    train(problem, wrap(problem, replace(LEARNED, backend=backend)), 3)
    assert torch.equal(backend.initial_weights(), torch.full((2,), 0.3, dtype=torch.float64))


def test_a_checkpoint_of_version_0_2_loads_for_its_circuit_and_no_other() -> None:
    linear, full = circuits("linear"), circuits("full")
    train(dense_problem(), linear, 2)
    state = linear.state_dict()
    state[STATE_KEY]["learned"]["circuit"] = "d9f60b7951a4"  # what 0.2 wrote
    again = circuits("linear")
    again.load_state_dict(state)
    assert torch.equal(learned(again).weights, learned(linear).weights)
    with pytest.raises(ValueError, match=r"learned for circuit d9f60b7951a4: this optimizer"):
        full.load_state_dict(state)


def evolved(paulis: str) -> PerturbedOptimizer:
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.h([0, 1])
    circuit.ry(x, 0)
    circuit.append(PauliEvolutionGate(SparsePauliOp(paulis), time=w), [0, 1])
    backend = CompiledBackend(ParametrizedCircuit(circuit, [x], [w]), weight_seed=0)
    return wrap(dense_problem(), Perturbation(backend, learning=Learning(weights_rate=0.3)))


@pytest.mark.filterwarnings("ignore:splu converted|spsolve")  # qiskit's own matrix of it
def test_weights_of_another_evolution_are_refused() -> None:
    state = evolved("ZZ").state_dict()
    evolved("ZZ").load_state_dict(state)
    with pytest.raises(ValueError, match="they mean something else"):
        evolved("XI").load_state_dict(state)


def test_weights_are_learned_around_gates_that_are_named_by_letters() -> None:
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.append(StatePreparation("+0"), [0, 1])
    circuit.append(PauliGate("XY"), [0, 1])
    circuit.ry(x, 0)
    circuit.rxx(w, 0, 1)
    backend = CompiledBackend(ParametrizedCircuit(circuit, [x], [w]), weight_seed=0)
    problem = dense_problem()
    optimizer = wrap(problem, Perturbation(backend, learning=Learning(weights_rate=0.3)))
    before = learned(optimizer).weights.clone()
    train(problem, optimizer, 3)
    assert not torch.equal(learned(optimizer).weights, before)
