"""The description of a perturbation: which circuit, where, how strong, and how it enters."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor

from lightning_qsgd.backends import Backend, SineBackend
from lightning_qsgd.backends.backend import is_ours
from lightning_qsgd.backends.backend_of import backend_of
from lightning_qsgd.circuits import CircuitSource
from lightning_qsgd.perturbations.coordinates import Coordinates, FirstOfEachTensor
from lightning_qsgd.perturbations.features import Feature, Features, Parameters, Together
from lightning_qsgd.perturbations.injection import Injection, UpdateInjection
from lightning_qsgd.perturbations.strength import Learning, Strength

if TYPE_CHECKING:
    Evaluated: TypeAlias = Backend  # whatever is given, a backend is what is found there
else:
    Evaluated = Backend | CircuitSource  # what a config may name


@dataclass(frozen=True)
class Perturbation:
    r"""Describes what is added to an optimizer's steps; holds no state.

    On the chosen coordinates, in blocks of n = `backend.num_qubits`, the backend turns parameters
    into the modulation :math:`u(\theta) \in [-1, 1]^n`, and :math:`Q = u(\theta) \odot g`. The
    defaults are Eq. 1 and Eq. 2 with the first 4 entries of each tensor and strength 0.5.

    Args:
        backend: Evaluates the circuit: a backend; a circuit, which is compiled; or a `SamplerQNN`
            (`backend_of`). The closed-form sine by default.
        coordinates: Chooses the perturbed entries.
        strength: The paper's lambda: a number, or a `Strength` with a schedule.
        injection: Where the perturbation enters.
        seed: Names the random streams (shots, random coordinates), non-negative.
        features: What the circuit sees of each entry: the parameters by default; or a list of
            features of the entries, each an input of one circuit per entry.
        learning: Learns strength, circuit weights, or both, during the training; None keeps both
            as they are given.

    Raises:
        TypeError: If a part is of the wrong kind.
        ValueError: If the seed is negative, the strength out of range, or there is nothing that
            `learning` could learn from or learn.

    Example:
        >>> Perturbation(strength=0.1).schedule.at(step=0)
        0.1

    References:
        arXiv:2511.01918, Eq. 1 and 2.
    """

    backend: Evaluated = field(default_factory=SineBackend)
    coordinates: Coordinates = field(default_factory=FirstOfEachTensor)
    strength: float | Strength = 0.5
    injection: Injection = field(default_factory=UpdateInjection)
    seed: int = 0
    learning: Learning | None = None
    features: Features | list[Feature] = field(default_factory=Parameters)

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(
                f"Expected `seed` to be a non-negative integer, got {self.seed}: it names the "
                "random streams. Use 0 or more."
            )
        object.__setattr__(self, "backend", backend_of(self.backend))
        self.backend.check_blocks()
        for name, kind in _POLICIES.items():
            if not isinstance(getattr(self, name), kind):
                raise TypeError(
                    f"Expected `{name}` to be a {kind.__name__}, got "
                    f"{type(getattr(self, name)).__name__}: the perturbation is composed of one "
                    f"policy of each kind. Pass an instance of a subclass of {kind.__name__}."
                )
        _check_injection(self.injection)
        self.injection.check_backend(self.backend)
        self._check_features()
        self.schedule  # noqa: B018 - validates a strength that was given as a number
        if self.learning is not None:
            self._check_learning(self.learning)

    @cached_property
    def schedule(self) -> Strength:
        """The strength as a schedule."""
        return self.strength if isinstance(self.strength, Strength) else Strength(self.strength)

    @cached_property
    def seen(self) -> Features:
        """The features as one policy."""
        return self.features if isinstance(self.features, Features) else Together(self.features)

    def _check_features(self) -> None:
        if not isinstance(self.features, Features | list | tuple):
            raise TypeError(
                f"Expected `features` to be Features or a list of them, got "
                f"{type(self.features).__name__}: they say what the circuit sees. Pass e.g. "
                "Alignment(), or leave them out to show it the parameters."
            )
        if self.injection.modulated:
            self.seen.check(self.backend)
        if self.seen.needs_base_step and self.injection.enters == "gradient":
            raise ValueError(
                f"{type(self.injection).__name__} changes the gradient before the base has moved, "
                f"and {self.features!r} is known only afterwards. Use RenormalisedInjection, or "
                "features that need the gradient alone."
            )

    @property
    def is_off(self) -> bool:
        """Whether nothing is ever added: the strength is 0."""
        return self.schedule.value == 0

    @property
    def is_direct(self) -> bool:
        """Whether it is Eq. 1 as it stands, whatever the circuit, the coordinates and the strength.

        A subclass of a part may mean something else, and so may a method that a user replaced.
        """
        kinds = type(self.injection), type(self.seen)
        is_plain = kinds == (UpdateInjection, Parameters) and self.learning is None
        as_written = is_ours(UpdateInjection.coefficients)
        return is_plain and as_written and self.injection == UpdateInjection()

    @property
    def is_sine(self) -> bool:
        """Whether the backend is the closed form of Eq. 2, as it stands."""
        return type(self.backend) is SineBackend and is_ours(SineBackend.readout)

    def _check_learning(self, learning: Learning) -> None:
        if not isinstance(learning, Learning):
            raise TypeError(
                f"Expected `learning` to be a Learning, got {type(learning).__name__}: it holds "
                "the rates. Pass Learning(strength_rate=0.02), or None to learn nothing."
            )
        if not self.injection.can_be_learned:
            raise ValueError(
                f"Cannot learn with a {type(self.injection).__name__}: {_why(self.injection)}, or "
                "leave `learning` out."
            )
        if self.injection.control is not None:
            raise ValueError(
                f"Cannot learn under {type(self.injection.control).__name__}: what it adds is not "
                "what the circuit says, so the loss tells nothing about the circuit. Leave "
                "`learning` or `control` out."
            )
        if learning.weights_rate > 0:
            self._check_weights(self.backend.initial_weights())

    def _check_weights(self, weights: Any) -> None:
        is_vector = isinstance(weights, Tensor) and weights.is_floating_point()
        if not is_vector or weights.dim() != 1 or not bool(weights.isfinite().all()):
            raise ValueError(
                f"Expected `initial_weights` of {type(self.backend).__name__} to return a finite "
                f"vector of floating-point numbers, got {weights!r}: learning moves each of them. "
                "Return e.g. torch.zeros(num_weights, dtype=torch.float64)."
            )
        if not len(weights):
            raise ValueError(
                f"Cannot learn the weights of {type(self.backend).__name__}: its circuit has none. "
                "Set `weights_rate` to 0, or take a circuit with weights, such as "
                "SuperpositionCircuit."
            )


def _why(injection: Injection) -> str:
    """Say why nothing can be learned with an injection, and what to do instead."""
    if not injection.modulated and type(injection).evaluate is not Injection.evaluate:
        return (
            "it reads the circuit elsewhere than at the parameters, and how the loss depends on "
            "that is not followed. Search the strength by `compare`, and give the circuit's "
            "weights or draw them by `weight_seed`"
        )
    if injection.modulated:
        reason = "what it adds passes through the base optimizer, whose derivative is unknown"
    else:
        reason = "what it adds comes from no circuit"
    return f"{reason}. Use UpdateInjection or RelativeInjection"


def _check_injection(injection: Injection) -> None:
    """Refuse an injection of the user's that contradicts itself."""
    name = type(injection).__name__
    if injection.enters not in ("update", "gradient"):
        raise ValueError(
            f"Expected `enters` of {name} to be 'update' or 'gradient', got {injection.enters!r}: "
            "there is nothing else to add to. Set one of them in the class."
        )
    if injection.enters == "gradient" and injection.needs_base_step:
        raise ValueError(
            f"{name} enters the gradient and needs the base's step, which is known only after the "
            "base has used the gradient. Set `enters = 'update'`, or do without the step."
        )
    if injection.control is not None and not injection.modulated:
        raise ValueError(
            f"Cannot control {name} by {type(injection.control).__name__}: no circuit's readout "
            "multiplies what it adds, so that there is none to replace. Leave `control` out."
        )


_POLICIES = {"coordinates": Coordinates, "injection": Injection}
