"""The oracle: the paper's equations in plain loops over lists of floats.

Slow and obvious on purpose. It imports nothing of the package; torch only holds the parameters and
provides the bare base optimizer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import cos, isfinite, pi, sin, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

Readout = Callable[[list[float]], list[float]]


def sine_readout(block: list[float]) -> list[float]:
    """Eq. 2's sin(pi theta)."""
    return [sin(pi * theta) if isfinite(theta) else 0.0 for theta in block]


def read(tensor: Tensor) -> list[float]:
    """List the real entries of a tensor in row-major order."""
    dense = tensor.detach()
    dense = dense.to_dense() if dense.layout != torch.strided else dense
    dense = torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense
    return [float(value) for value in dense.reshape(-1).tolist()]


def write(tensor: Tensor, values: list[float]) -> None:
    """Overwrite a tensor, given its real entries in row-major order."""
    real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    real.copy_(torch.tensor(values, dtype=torch.float64).reshape(real.shape))


def touched_runs(
    parameters: list[Tensor], coordinates: str, num_qubits: int
) -> list[list[tuple[int, int]]]:
    """List the runs of touched (tensor, entry) pairs; a run is what is cut into blocks."""
    runs: list[list[tuple[int, int]]] = []
    offset = 0
    for tensor, parameter in enumerate(parameters):
        size = len(read(parameter))
        run = []
        for entry in range(size):
            if parameter.grad is None:
                continue
            if (
                coordinates == "all"
                or (coordinates == "first_of_each_tensor" and entry < num_qubits)
                or (coordinates == "first_of_model" and offset + entry < num_qubits)
            ):
                run.append((tensor, entry))
        runs.append(run)
        offset += size
    if coordinates == "first_of_model":
        return [[pair for run in runs for pair in run]]
    return runs


def modulate(values: list[float], readout: Readout, num_qubits: int) -> list[float]:
    """Cut a run into blocks, pad the last one with zeros, and read every block out."""
    result: list[float] = []
    for start in range(0, len(values), num_qubits):
        block = values[start : start + num_qubits]
        padded = block + [0.0] * (num_qubits - len(block))
        result += readout(padded)[: len(block)]
    return result


def squashed(x: float) -> float:
    """x / sqrt(1 + x^2)."""
    return x / sqrt(1 + x * x)


def root_mean_square(values: list[float]) -> float:
    """Of one tensor's entries."""
    return sqrt(sum(value * value for value in values) / len(values))


def feature_of(
    name: str, theta: list[float], gradient: list[float], delta: list[float], progress: float
) -> list[float]:
    """One feature of each entry of one tensor; delta without decoupled weight decay."""
    if name == "progress":
        return [progress] * len(theta)
    if name == "alignment":
        scale = max(root_mean_square(gradient) * root_mean_square(delta), 1e-30)
        return [squashed(-4 * g * d / scale) for g, d in zip(gradient, delta, strict=True)]
    values = {"gradient": gradient, "step": [-d for d in delta], "weight": theta}[name]
    scale = max(root_mean_square(values), 1e-30)
    return [squashed(value / scale) for value in values]


def decoupled_decay(group: dict[str, Any]) -> float:
    """The share of a parameter that one step of decoupled weight decay takes away."""
    decoupled = group.get("decoupled_weight_decay") or "ns_steps" in group or "beta2_decay" in group
    return float(group["lr"]) * group.get("weight_decay", 0.0) if decoupled else 0.0


@dataclass
class ReferenceFeatures:
    """Hand-written steps whose circuit, one per entry, sees features, after the bare optimizer's.

    `readout` turns the features of one entry into u; `floor` is None for the relative injection
    without renormalisation.
    """

    base: Optimizer
    features: list[str]
    readout: Callable[[list[float]], float]
    strength: float = 0.5
    floor: float | None = 0.1
    total_steps: int = 10
    steps: int = 0

    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        """Take one step; g is that of the closure's first evaluation."""
        before: list[tuple[Tensor, dict[str, Any], list[float], list[float]]] = []

        def record() -> None:
            for group in self.base.param_groups:
                sign = -1.0 if group.get("maximize") else 1.0
                for p in group["params"]:
                    if p.grad is not None:
                        gradient = [sign * g for g in read(p.grad)]
                        before.append((p, dict(group), read(p), gradient))

        def recorded() -> Tensor:
            assert closure is not None
            loss = closure()
            if not before:
                record()
            return loss

        if closure is None:
            record()
            self.base.step()
        else:
            self.base.step(recorded)
        for parameter, group, theta, gradient in before:
            write(parameter, self._moved(theta, gradient, read(parameter), group))
        self.steps += 1

    def _moved(
        self, theta: list[float], gradient: list[float], after: list[float], group: dict[str, Any]
    ) -> list[float]:
        decay = decoupled_decay(group)
        delta = [new - old + decay * old for new, old in zip(after, theta, strict=True)]
        progress = min(self.steps / self.total_steps, 1.0)
        seen = [feature_of(name, theta, gradient, delta, progress) for name in self.features]
        u = [self.readout([each[i] for each in seen]) for i in range(len(theta))]
        w = [1 + self.strength * each for each in u]
        if self.floor is None:
            moved = [new - old for new, old in zip(after, theta, strict=True)]
            return [old + d * each for old, d, each in zip(theta, moved, w, strict=True)]
        mean = max(sum(w) / len(w), self.floor)
        return [
            old - decay * old + d * each / mean
            for old, d, each in zip(theta, delta, w, strict=True)
        ]


def polynomial_by_loops(
    u: Callable[[list[float]], float], degrees: list[int], at: list[float]
) -> float:
    """Interpolate u, a trigonometric polynomial of angles, from a grid, by Fourier sums."""
    if not degrees:
        return u([])
    count = 2 * degrees[0] + 1
    total = 0.0
    for place in range(count):
        angle = 2 * pi * place / count
        value = polynomial_by_loops(lambda rest, a=angle: u([a, *rest]), degrees[1:], at[1:])  # type: ignore[misc]
        kernel = 1 + 2 * sum(cos(k * (at[0] - angle)) for k in range(1, degrees[0] + 1))
        total += value * kernel / count
    return total


class ReferenceOptimizer:
    """Hand-written perturbed steps around a bare optimizer."""

    def __init__(
        self,
        base: Optimizer,
        injection: str = "update",
        coordinates: str = "first_of_each_tensor",
        strength: float = 0.5,
        num_qubits: int = 4,
        readout: Readout = sine_readout,
    ) -> None:
        self.base = base
        self.injection = injection
        self.coordinates = coordinates
        self.strength = strength
        self.num_qubits = num_qubits
        self.readout = readout

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.base.param_groups for p in group["params"]]

    def _record(self) -> None:
        parameters = self._parameters()
        self.theta = [read(p) for p in parameters]
        self.gradient = [[] if p.grad is None else read(p.grad) for p in parameters]
        self.rates, self.signs = [], []
        for group in self.base.param_groups:
            for _ in group["params"]:
                self.rates.append(float(group["lr"]))
                self.signs.append(-1.0 if group.get("maximize") else 1.0)
        self.modulation: dict[tuple[int, int], float] = {}
        for run in touched_runs(parameters, self.coordinates, self.num_qubits):
            values = [self.theta[tensor][entry] for tensor, entry in run]
            u = modulate(values, self.readout, self.num_qubits)
            for pair, value in zip(run, u, strict=True):
                self.modulation[pair] = value
        if self.injection == "gradient":
            self._perturb_gradients(parameters)

    def _perturb_gradients(self, parameters: list[Tensor]) -> None:
        perturbed = [list(gradient) for gradient in self.gradient]
        for (tensor, entry), u in self.modulation.items():
            g = self.gradient[tensor][entry]
            perturbed[tensor][entry] = g + self.strength * u * g
        for parameter, gradient in zip(parameters, perturbed, strict=True):
            if parameter.grad is not None:
                write(parameter.grad, gradient)

    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        """Take one step: Q from the first evaluation, the base's step, then the perturbation."""
        if closure is None:
            self._record()
            self.base.step()
        else:
            evaluations = []

            def recorded() -> Tensor:
                loss = closure()
                if not evaluations:
                    self._record()
                evaluations.append(loss)
                return loss

            self.base.step(recorded)
        parameters = self._parameters()
        after = [read(p) for p in parameters]
        for (tensor, entry), u in self.modulation.items():
            theta, g = self.theta[tensor][entry], self.gradient[tensor][entry]
            moved = after[tensor][entry]
            if self.injection == "update":
                q = u * g
                step_size = self.signs[tensor] * self.rates[tensor]
                after[tensor][entry] = moved - step_size * self.strength * q
            elif self.injection == "relative":
                after[tensor][entry] = theta + (moved - theta) * (1 + self.strength * u)
        if self.injection != "gradient":
            for parameter, values in zip(parameters, after, strict=True):
                write(parameter, values)


def paper_adam_step(
    theta: list[float],
    gradient: list[float],
    m: list[float],
    v: list[float],
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    strength: float = 0.0,
    num_qubits: int = 4,
) -> None:
    """Eq. 1 and Eq. 2 to the letter, in place: no bias correction, eps inside the root."""
    for i in range(len(theta)):
        g = gradient[i]
        m[i] = betas[0] * m[i] + (1 - betas[0]) * g
        v[i] = betas[1] * v[i] + (1 - betas[1]) * g * g
        q = sin(pi * theta[i]) * g if i < num_qubits else 0.0
        theta[i] = theta[i] - lr * (m[i] / sqrt(v[i] + eps) + strength * q)


def cnot_pairs(num_qubits: int, entanglement: str) -> list[tuple[int, int]]:
    """List (control, target) pairs of one layer."""
    pairs: list[tuple[int, int]] = []
    if entanglement in ("linear", "circular"):
        for qubit in range(num_qubits - 1):
            pairs.append((qubit, qubit + 1))
    if entanglement == "circular" and num_qubits > 2:
        pairs.append((num_qubits - 1, 0))
    if entanglement == "full":
        pairs += combinations(range(num_qubits), 2)
    return pairs


def on_qubits(num_qubits: int, gates: dict[int, np.ndarray]) -> np.ndarray:
    """Kronecker product with the given 2x2 matrices; qubit 0 is the least significant bit."""
    matrix = np.eye(1, dtype=complex)
    for qubit in range(num_qubits):
        matrix = np.kron(gates.get(qubit, np.eye(2)), matrix)
    return matrix


def circuit_readout(
    inputs: list[float], reps: int, entanglement: str, weights: list[float]
) -> list[float]:
    """P(1) - P(0) of each qubit of Eq. 5's circuit, by full matrices on the state vector."""
    n = len(inputs)
    hadamard = np.array([[1, 1], [1, -1]]) / sqrt(2)
    zero, one, flip = np.diag([1, 0]), np.diag([0, 1]), np.array([[0, 1], [1, 0]])
    state = np.zeros(2**n, dtype=complex)
    state[0] = 1
    for qubit in range(n):
        state = on_qubits(n, {qubit: hadamard}) @ state
    for layer in range(reps):
        offsets = weights[2 * layer * n : 2 * layer * n + n]
        phases = weights[2 * layer * n + n : 2 * layer * n + 2 * n]
        for qubit in range(n):
            half = (pi * inputs[qubit] + offsets[qubit]) / 2
            ry = np.array([[cos(half), -sin(half)], [sin(half), cos(half)]])
            rz = np.diag([np.exp(-0.5j * phases[qubit]), np.exp(0.5j * phases[qubit])])
            state = on_qubits(n, {qubit: rz}) @ on_qubits(n, {qubit: ry}) @ state
        for control, target in cnot_pairs(n, entanglement):
            cnot = on_qubits(n, {control: zero}) + on_qubits(n, {control: one, target: flip})
            state = cnot @ state
    probabilities = np.abs(state) ** 2
    readout = []
    for qubit in range(n):
        p_one = sum(p for outcome, p in enumerate(probabilities) if (outcome >> qubit) & 1)
        readout.append(float(p_one - (1 - p_one)))
    return readout


def differences(function: Callable[[list[float]], float], at: list[float]) -> list[float]:
    """Differentiate by central differences, one argument at a time."""
    width, result = 1e-5, []
    for index in range(len(at)):
        up, down = list(at), list(at)
        up[index] += width
        down[index] -= width
        result.append((function(up) - function(down)) / (2 * width))
    return result


@dataclass
class ReferenceLearner:
    """Perturbed gradient descent that learns from finite differences of the next loss itself.

    No chain rule: the last step is taken again with another factor or other weights, and the loss
    after it is evaluated. `runs(step)` lists the runs of touched entries; `rates` are those of
    strength and weights.
    """

    loss: Callable[[list[float]], float]
    runs: Callable[[int], list[list[int]]]
    readout: Callable[[list[float], list[float]], list[float]]
    num_qubits: int
    learning_rates: list[float]
    strength: float
    rates: tuple[float, float]
    theta: list[float]
    weights: list[float]
    factor: float = 1.0
    steps: int = 0
    last: tuple[list[float], int] | None = None

    def added(self, theta: list[float], step: int, weights: list[float]) -> dict[int, float]:
        """What a factor of 1 adds to the touched entries at a step."""
        gradient = differences(self.loss, theta)
        added = {}
        for run in self.runs(step):
            values = [theta[entry] for entry in run]
            u = modulate(values, lambda block: self.readout(block, weights), self.num_qubits)
            for entry, value in zip(run, u, strict=True):
                added[entry] = -self.learning_rates[entry] * self.strength * value * gradient[entry]
        return added

    def moved(
        self, theta: list[float], step: int, factor: float, weights: list[float]
    ) -> list[float]:
        """Where a step leads."""
        gradient = differences(self.loss, theta)
        result = [t - lr * g for t, lr, g in zip(theta, self.learning_rates, gradient, strict=True)]
        for entry, value in self.added(theta, step, weights).items():
            result[entry] += factor * value
        return result

    def learn(self, theta: list[float], step: int) -> None:
        """Change factor and weights by what the loss after the last step says."""
        touched = [entry for run in self.runs(step) for entry in run]
        gradient, before = differences(self.loss, self.theta), differences(self.loss, theta)
        norm = sqrt(sum(gradient[entry] ** 2 for entry in touched))
        rates = self.learning_rates
        most = sqrt(sum((rates[e] * self.strength * before[e]) ** 2 for e in touched))
        size = sqrt(sum(value**2 for value in self.added(theta, step, self.weights).values()))
        (by_factor,) = differences(
            lambda f: self.loss(self.moved(theta, step, f[0], self.weights)), [self.factor]
        )
        by_weights = differences(
            lambda w: self.loss(self.moved(theta, step, self.factor, w)), self.weights
        )
        scale = self.rates[1] / (norm * most * self.factor)
        self.factor = max(0.0, self.factor - self.rates[0] * by_factor / (norm * size))
        self.weights = [w - scale * d for w, d in zip(self.weights, by_weights, strict=True)]

    def step(self) -> None:
        """Learn from the last step, then take the next one."""
        if self.last is not None:
            self.learn(*self.last)
        self.last = (self.theta, self.steps)
        self.theta = self.moved(self.theta, self.steps, self.factor, self.weights)
        self.steps += 1


def spectral_step(
    matrix: Tensor,
    own: Tensor,
    u: Callable[[float], float],
    strength: float,
    least_share: float = 0.1,
) -> Tensor:
    """Return the step that keeps the norm of `own` and adds U u(s) V^T of `matrix` to it.

    One singular direction after the other; `own` is the base's step without weight decay.
    """
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    norm = sqrt(sum(value**2 for value in read(own)))
    mean = norm / sqrt(len(singular))
    new = own.clone()
    for index, value in enumerate(singular.tolist()):
        share = value / float(singular[0]) if singular[0] > 0 else 0.0
        if share > 0:
            new -= strength * mean * u(share) * torch.outer(left[:, index], right[index])
    length = sqrt(sum(value**2 for value in read(new)))
    return new * (norm / max(length, least_share * norm, 1e-30))
