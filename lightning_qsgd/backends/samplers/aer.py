"""Sampling with Aer: transpiled once, with a key per circuit; and circuits for a user's own Aer."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qiskit import generate_preset_pass_manager
from qiskit.circuit import (
    ControlFlowOp,
    ControlledGate,
    Gate,
    Operation,
    ParameterExpression,
    QuantumCircuit,
)
from qiskit.exceptions import QiskitError
from qiskit.primitives import (
    BaseEstimatorV2,
    BaseSamplerV2,
    EstimatorPubLike,
    SamplerPubLike,
)
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.transpiler import StagedPassManager, TranspileLayout
from typing_extensions import override

from lightning_qsgd.backends.keyed_sampler import KeyedSampler
from lightning_qsgd.backends.samplers.noise import Noise, noise_on
from lightning_qsgd.backends.samplers.sampling import Sampling, check_shots

if TYPE_CHECKING:
    from qiskit_aer.noise import NoiseModel


class KeyedAerSampler(KeyedSampler):
    """Runs each circuit by itself on Aer, seeded with its key.

    In a batch, Aer gives each circuit the seed of the batch plus its position, so its shots would
    depend on the tensors before it. A run of one circuit costs about 1 ms, as in a `SamplerQNN`
    anyway; it works with all methods, where drawing from exact probabilities would need a density
    matrix of 4^n entries for noise.

    Each run is given the noise of its own qubits alone: reading that of a device with 127 qubits
    takes Aer more than a second, every time.

    Args:
        simulator: An `AerSimulator`.
        shots: Number of shots per circuit, at least 1.
        noise: What goes wrong on the way; None for nothing.
    """

    def __init__(self, simulator: Any, shots: int, noise: NoiseModel | None = None) -> None:
        super().__init__(shots)
        self.simulator = simulator
        self.noise = noise
        self._noise_on: dict[frozenset[int], NoiseModel] = {}

    def _draw(self, circuit: Any, shots: int, key: int) -> dict[int, int]:
        # What Aer's SamplerV2 does as well, without a list of every single shot.
        seed = key >> 1  # Aer's seeds have 63 bits
        options = {} if self.noise is None else {"noise_model": self._noise_of(circuit)}
        job = self.simulator.run(circuit, shots=shots, seed_simulator=seed, **options)
        result = job.result()
        if not result.success:
            raise RuntimeError(
                f"Aer failed: {result.results[0].status if result.results else result.status}. "
                "Choose a method that knows the gates of the circuit, or fewer qubits."
            )
        return {int(outcome, 16): count for outcome, count in result.data(0)["counts"].items()}

    def _noise_of(self, circuit: Any) -> NoiseModel:
        acted = (qubit for instruction in circuit.data for qubit in instruction.qubits)
        qubits = frozenset(circuit.find_bit(qubit).index for qubit in acted)
        if qubits not in self._noise_on:
            self._noise_on[qubits] = noise_on(qubits, self.noise)
        return self._noise_on[qubits]


KEPT_CIRCUITS = 64
"""Transpiled circuits that are kept: one per network, and one per gate set of its gradients."""


class TranspilingSampler(BaseSamplerV2):  # type: ignore[misc]
    """Transpiles circuits for a sampler.

    Circuits come here measured, with bit i for qubit i, and transpilation keeps that: whatever
    layout the device needs, results are those of the circuit as written, for values and for
    gradients. A `SamplerQNN` with a pass manager measures all qubits of the device afterwards
    and undoes the layout, but only for values: its gradients are those of other qubits.

    Args:
        sampler: Runs the circuits.
        pass_manager: Transpiles them for the sampler; None leaves them as they are.
    """

    def __init__(self, sampler: BaseSamplerV2, pass_manager: Any = None) -> None:
        self.sampler = sampler
        self.pass_manager = pass_manager
        self._kept: dict[int, tuple[QuantumCircuit, QuantumCircuit]] = {}

    @override
    def run(self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None) -> Any:
        ready = [self._transpiled(SamplerPub.coerce(pub)) for pub in pubs]
        return self.sampler.run(ready, shots=shots)

    def __getattr__(self, name: str) -> Any:  # what a network of the user's asks its own sampler
        return getattr(self.__dict__["sampler"], name)

    def _transpiled(self, pub: SamplerPub) -> tuple[Any, ...]:
        circuit = self._physical(pub.circuit)
        # Parameters that change no outcome, such as a last Rz's, may be gone.
        places = {parameter: place for place, parameter in enumerate(pub.circuit.parameters)}
        kept = [places[parameter] for parameter in circuit.parameters]
        values = pub.parameter_values.as_array(list(pub.circuit.parameters))[..., kept]
        return (circuit, values, pub.shots) if pub.shots else (circuit, values)

    def _physical(self, circuit: QuantumCircuit) -> QuantumCircuit:
        if self.pass_manager is None:
            return circuit
        kept = self._kept.get(id(circuit))
        if kept is None:
            if len(self._kept) >= KEPT_CIRCUITS:
                self._kept.clear()
            # The circuit is kept with its result, so that no other one can get its id.
            kept = self._kept[id(circuit)] = (circuit, self._run_passes(circuit))
        return kept[1]

    def _run_passes(self, circuit: QuantumCircuit) -> QuantumCircuit:
        try:
            transpiled: QuantumCircuit = self.pass_manager.run(circuit)
        except QiskitError as error:
            raise ValueError(
                f"Cannot transpile the circuit for the sampler: {error.message}. Decompose what it "
                "names, or use ExactSampling or ShotSampling, which take any gate with a matrix."
            ) from error
        return transpiled


def passes_in_place(passes: Any) -> Any:
    """Return a pass manager for circuits that it has placed on the device already.

    Placing them once more would move them: a list of places fits the original qubits alone. What
    else a preset pass manager does keeps each gate on its qubits.
    """
    if not isinstance(passes, StagedPassManager):
        return passes
    kept = StagedPassManager([stage for stage in passes.stages if stage not in _PLACING])
    for stage in kept.expanded_stages:
        setattr(kept, stage, getattr(passes, stage))
    return kept


def transpile_in_sampler(gradient: Any, layout: TranspileLayout | None) -> None:
    """Give the pass manager of a gradient to its sampler, which keeps what it has transpiled.

    Args:
        gradient: That of a `SamplerQNN`; it is changed.
        layout: Where the circuit of the network lies; None where it has not been placed.
    """
    passes = getattr(gradient, "_pass_manager", None)
    if passes is not None:
        passes = passes if layout is None else passes_in_place(passes)
        gradient._sampler = TranspilingSampler(gradient._sampler, passes)
        gradient._pass_manager = None


_PLACING = ("init", "layout", "routing")
"""Stages that place qubits, and the one before: it may leave out swaps for them to undo."""


def prepared_for_aer(primitive: Any) -> Any:
    """Return Aer's own sampler or estimator with circuits that it binds right; others as they are.

    Aer 0.18 asks each gate whether it `is_parameterized`, which controlled gates deny: their free
    angles are 0 to it. And where a control is open, it binds the X gate that it puts in front.
    """
    module = sys.modules.get("qiskit_aer.primitives")  # if not loaded, nothing is of its classes
    if module is not None and isinstance(primitive, module.SamplerV2):
        return TranspilingSampler(primitive, _ForAer())
    if module is not None and isinstance(primitive, module.EstimatorV2):
        return _AerEstimator(primitive)
    return primitive


class _ForAer:
    """Replaces controlled gates with free angles by plain gates of their names, which Aer knows."""

    def run(self, circuit: QuantumCircuit) -> QuantumCircuit:
        """Return a circuit of the same effect."""
        changed = circuit.copy_empty_like()
        for step in circuit.data:
            operation, qubits = step.operation, step.qubits
            if isinstance(operation, ControlFlowOp):
                blocks = [self.run(block) for block in operation.blocks]
                changed.append(operation.replace_blocks(blocks), qubits, step.clbits)
            elif isinstance(operation, ControlledGate) and _has_free_angles(operation):
                controls = enumerate(qubits[: operation.num_ctrl_qubits])
                opened = [qubit for i, qubit in controls if not operation.ctrl_state >> i & 1]
                closed = operation.copy()
                closed.ctrl_state = None
                gate = Gate(closed.name, len(qubits), closed.params, label=closed.label)
                for qubit in opened:
                    changed.x(qubit)
                changed.append(gate, qubits)
                for qubit in opened:
                    changed.x(qubit)
            else:
                changed.append(step)
        return changed


def _has_free_angles(operation: Operation) -> bool:
    return any(isinstance(p, ParameterExpression) and p.parameters for p in operation.params)


class _AerEstimator(BaseEstimatorV2):  # type: ignore[misc]
    """Gives Aer's estimator circuits that it binds right."""

    def __init__(self, estimator: BaseEstimatorV2) -> None:
        self.estimator = estimator

    @override
    def run(self, pubs: Iterable[EstimatorPubLike], *, precision: float | None = None) -> Any:
        ready = []
        for pub in map(EstimatorPub.coerce, pubs):
            circuit = _ForAer().run(pub.circuit)
            ready.append((circuit, pub.observables, pub.parameter_values, pub.precision))
        return self.estimator.run(ready, precision=precision)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["estimator"], name)


WITHOUT_SHOTS = frozenset({"unitary", "superop"})
"""Methods of Aer that compute operators, and measure nothing."""


def _built(noise: Noise) -> Any:
    """Build a noise model; None would run without noise, and without a word.

    Raises:
        TypeError: If a user's noise builds something else.
    """
    from qiskit_aer.noise import NoiseModel

    built = noise.build()
    if not isinstance(built, NoiseModel):
        raise TypeError(
            f"Expected `build` of {type(noise).__name__} to return a NoiseModel, got "
            f"{type(built).__name__}: circuits would run without its noise. Return the model."
        )
    return built


@dataclass(frozen=True)
class AerSampling(Sampling):
    """Draws shots with an `AerSimulator`, seeded by the key of each circuit.

    Args:
        shots: Shots per circuit, at least 1.
        method: Aer's simulation method, e.g. ``"statevector"``, ``"density_matrix"`` or
            ``"matrix_product_state"``; ``"automatic"`` leaves the choice to Aer.
        device: ``"CPU"`` or, where Aer was built for it, ``"GPU"``.
        noise: What goes wrong on the way; None for nothing.

    Raises:
        ValueError: If `shots` is below 1, or Aer has no such method or device.

    Example:
        >>> AerSampling(shots=128, method="matrix_product_state").shots
        128
    """

    shots: int
    method: str = "automatic"
    device: str = "CPU"
    noise: Noise | None = None

    stochastic = True
    reproducible = True
    bytes_per_shot = 240
    """Measured peak: 120 with a state vector, 225 with Aer's other methods."""

    def __post_init__(self) -> None:
        from qiskit_aer import AerSimulator

        check_shots(self.shots)
        if self.noise is not None and not isinstance(self.noise, Noise):
            raise TypeError(
                f"Expected `noise` to be a Noise, got {type(self.noise).__name__}: it describes "
                "a noise model. Give e.g. DepolarizingNoise(0.01), or None for no noise."
            )
        methods = [m for m in AerSimulator().available_methods() if m not in WITHOUT_SHOTS]
        if self.method not in methods:
            raise ValueError(
                f"Unknown method {self.method!r}: Aer has no such way to draw shots here. "
                f"Choose one of {', '.join(methods)}."
            )
        devices = AerSimulator().available_devices()
        if self.device not in devices:
            raise ValueError(
                f"Cannot simulate on {self.device!r}: Aer was built for {', '.join(devices)} "
                "alone, or finds no such device. Use device='CPU', or install qiskit-aer-gpu on "
                "a machine with a GPU."
            )

    @override
    def sampler(self) -> BaseSamplerV2:
        from qiskit_aer import AerSimulator

        options: dict[str, Any] = {"method": self.method, "device": self.device}
        device = None if self.noise is None else self.noise.device()
        noise = None if self.noise is None else _built(self.noise)
        if noise is not None:
            options["noise_model"] = noise
        simulator = AerSimulator(**options)
        passes = generate_preset_pass_manager(
            optimization_level=0 if device is None else 1,
            backend=simulator if device is None else device,
            seed_transpiler=0,
        )
        return TranspilingSampler(KeyedAerSampler(simulator, self.shots, noise), passes)

    @override
    def check_size(self, num_qubits: int) -> None:
        """Refuse circuits larger than the noisy device."""
        device = None if self.noise is None else self.noise.device()
        if device is not None and device.num_qubits < num_qubits:
            raise ValueError(
                f"Cannot run a circuit of {num_qubits} qubits on a device of {device.num_qubits}: "
                "it has no place for all of them. Take the noise of a larger device."
            )
