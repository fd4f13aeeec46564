"""Compares what was compiled with qiskit's own state vector, before anything is evaluated.

The compiler reads what gates say of themselves: a base under controls, a definition, a matrix. A
gate that says one thing and is another would give wrong numbers without a word. So a circuit is
compared as a whole at random parameters; a large one, whose state vectors would take long, gate by
gate, each of them on a random product state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from qiskit.circuit import Instruction, Parameter, ParameterExpression, QuantumCircuit
from qiskit.quantum_info import Statevector
from torch import Tensor

from lightning_qsgd.backends.compiled.angles import CannotCompile, defined_point
from lightning_qsgd.backends.compiled.derivatives import to_be_kept
from lightning_qsgd.backends.compiled.standard_gates import GATES
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.circuits.measurements import CannotReadOut, unitary_part

LARGEST_WHOLE = 10
"""Qubits of a circuit that is compared as a whole: up to there it takes milliseconds."""

TOLERANCE = 1e-7
"""Of an amplitude. qiskit prepares states to 1e-8; what is wrong is wrong by far more."""

Amplitudes = Callable[[Tensor, Tensor], Tensor]
Point = tuple[np.ndarray, np.ndarray]
"""One value for each input and for each weight."""

_VERIFIED: set[int] = set()
_ALONE = "gate that is compared alone"


def random_point(built: ParametrizedCircuit, bent: Sequence[ParameterExpression]) -> Point:
    """Return values of the parameters at which all angles are defined.

    Args:
        built: The circuit.
        bent: Its angles that are no affine functions, which may be undefined at some points.

    Raises:
        ValueError: If none were found.
    """
    parameters = [*built.inputs, *built.weights]
    point = defined_point(bent, parameters, seed=built.num_qubits)
    if point is None:
        angles = ", ".join(dict.fromkeys(map(str, bent)))
        raise CannotCompile(
            f"Cannot compile a circuit with the angles {angles}: no values of its parameters, of "
            "all sizes up to 100, were found at which each of them is real and finite, as angles "
            "of gates are. Rewrite them so that they are all real for the same values."
        )
    values = np.array([point[parameter] for parameter in parameters])
    return values[: len(built.inputs)], values[len(built.inputs) :]


def check_others_are_zero(amplitudes: Amplitudes, states: np.ndarray, point: Point) -> None:
    """Refuse to leave out basis states of a circuit that are not empty.

    Args:
        amplitudes: What was compiled of it.
        states: Those that are read.
        point: Where it is evaluated.

    Raises:
        ValueError: If another one has an amplitude.
    """
    read = _evaluated(amplitudes, point)[states]
    if np.linalg.norm(read) < 1 - TOLERANCE:
        raise CannotReadOut(
            "Cannot read amplitudes of a transpiled circuit as it was written: qubits that are not "
            "in its layout do not end in 0, so that the others have no state of their own. Leave "
            "those qubits alone, or give the circuit as it is written."
        )


def check_against_qiskit(
    built: ParametrizedCircuit,
    amplitudes: Amplitudes,
    compile_one: Callable[[Any], Any],
    point: Point,
) -> None:
    """Refuse a compiled circuit that is not the one that qiskit simulates.

    Args:
        built: The circuit.
        amplitudes: What was compiled of it: inputs (B, num_inputs) and weights to (B, 2^n).
        compile_one: Compiles a circuit of one gate, and so checks it.
        point: Where they are compared.

    Raises:
        ValueError: If they disagree, naming the gate.
    """
    if built.num_qubits > LARGEST_WHOLE:
        for gate in _distinct_gates(built.circuit):
            _check_alone(gate, compile_one)
        return
    key = _hash_of(built.circuit, [*built.inputs, *built.weights])
    if key in _VERIFIED:
        return
    difference = _difference(built, amplitudes, point)
    if not difference <= TOLERANCE:
        names = built.circuit.data[-1].operation.name
        if built.circuit.name != _ALONE:
            for gate in _distinct_gates(built.circuit):
                _check_alone(gate, compile_one)
            each = dict.fromkeys(step.operation.name for step in built.circuit.data)
            names = "`, `".join(each)
        raise CannotCompile(
            f"Cannot compile gate `{names}`: an amplitude differs by {difference:.1e} from that of "
            "qiskit, so the gate is not what it says of itself. Decompose it, or evaluate "
            "this circuit with SamplerBackend (engine='sampler')."
        )
    _VERIFIED.add(key)


def _difference(built: ParametrizedCircuit, amplitudes: Amplitudes, point: Point) -> float:
    """Return the largest difference of an amplitude at a point."""
    bare, _ = unitary_part(built.circuit)
    values = dict(zip([*built.inputs, *built.weights], np.concatenate(point), strict=True))
    present = {p: value for p, value in values.items() if p in set(bare.parameters)}
    expected = Statevector(bare.assign_parameters(present)).data
    return float(np.abs(_evaluated(amplitudes, point) - expected).max())


def _evaluated(amplitudes: Amplitudes, point: Point) -> np.ndarray:
    inputs, weights = point
    # Whatever the caller has set for tensors of their own does not concern these.
    with to_be_kept(), torch.no_grad():
        found: np.ndarray = amplitudes(torch.tensor(inputs[None]), torch.tensor(weights))[0].numpy()
    return found


def _check_alone(gate: Instruction, compile_one: Callable[[Any], Any]) -> None:
    """Compile a gate on a random product state, which compares it; of large ones, their parts."""
    if gate.num_qubits > LARGEST_WHOLE:
        definition = None if gate.name in GATES else getattr(gate, "definition", None)
        for part in () if definition is None else _distinct_gates(definition):
            _check_alone(part, compile_one)
        return
    circuit = QuantumCircuit(gate.num_qubits, name=_ALONE)
    angles = np.random.default_rng(gate.num_qubits).uniform(0, 3, (gate.num_qubits, 3))
    if not _starts(gate):
        for qubit, each in enumerate(angles.tolist()):
            circuit.u(*each, qubit)
    circuit.append(gate, circuit.qubits)
    compile_one(ParametrizedCircuit(circuit, list(circuit.parameters)))


def _starts(gate: Instruction) -> bool:
    """Whether an instruction prepares a state, which is understood on fresh qubits only."""
    return gate.name in ("initialize", "reset") or "reset" in str(getattr(gate, "definition", ""))


def _distinct_gates(circuit: QuantumCircuit) -> Iterator[Instruction]:
    """Yield the gates, those of a standard kind once."""
    seen: set[Any] = set()
    for step in circuit.data:
        gate = step.operation
        kind = (type(gate), gate.name) if gate.name in GATES else _gate_key(gate)
        if kind not in seen and not step.clbits and gate.name not in ("barrier", "delay"):
            seen.add(kind)
            yield gate


def _hash_of(circuit: QuantumCircuit, parameters: Sequence[Parameter]) -> int:
    """Return a hash of what a circuit does, the same for a circuit that is built again."""
    return hash((tuple(parameter.name for parameter in parameters), _circuit_key(circuit)))


def _circuit_key(circuit: QuantumCircuit) -> Any:
    steps = [
        (_gate_key(step.operation), *(circuit.find_bit(qubit).index for qubit in step.qubits))
        for step in circuit.data
    ]
    return circuit.num_qubits, str(circuit.global_phase), tuple(steps)


def _gate_key(gate: Any) -> Any:
    params = getattr(gate, "params", ())
    values = tuple(p.tobytes() if isinstance(p, np.ndarray) else str(p) for p in params)
    key = type(gate), gate.name, gate.num_qubits, values
    if gate.name in GATES:
        return key
    for part in ("base_gate", "base_op"):
        if getattr(gate, part, None) is not None:
            state = getattr(gate, "ctrl_state", None), str(getattr(gate, "modifiers", ""))
            key = (*key, state, _gate_key(getattr(gate, part)))  # type: ignore[assignment]
    definition = getattr(gate, "_definition", None)
    return key if definition is None else (*key, _circuit_key(definition))
