"""A sampler that a function builds, named in a config."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from qiskit.primitives import BaseSamplerV2

from lightning_qsgd.backends.samplers.given import GivenSampling
from lightning_qsgd.backends.samplers.sampling import Sampling
from lightning_qsgd.circuits.calling import call_by_name


@dataclass(frozen=True)
class SamplingFromFunction(Sampling):
    """Uses the sampler that a function returns, with its pass manager; see `GivenSampling`.

    Args:
        function: Module and name of the function, e.g. ``"my_package.devices.sampler"``. It
            returns a `BaseSamplerV2`, or a tuple (sampler, pass manager).
        arguments: Its keyword arguments.
        paid: Whether its circuits cost money: a limit on their number is then required.

    Raises:
        ValueError: When it is built, if there is no such function or it does not take the
            arguments.
        TypeError: When it is built, if the function returns something else.

    Example:
        >>> arguments = {"default_shots": 64}
        >>> sampling = SamplingFromFunction("qiskit.primitives.StatevectorSampler", arguments)
        >>> type(sampling.sampler().sampler).__name__
        'StatevectorSampler'
    """

    function: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    paid: bool = False

    shots = None
    reproducible = False
    local = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", deepcopy(dict(self.arguments)))

    def sampler(self) -> BaseSamplerV2:
        """Call the function and build the sampler; see `Sampling.sampler`."""
        returned = call_by_name(self.function, self.arguments)
        given = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned,)
        return GivenSampling(*given).sampler()
