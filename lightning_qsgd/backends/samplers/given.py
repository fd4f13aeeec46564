"""Samplers from elsewhere: the user's own, as an object or as a function in a config, and IBM's."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from qiskit import generate_preset_pass_manager
from qiskit.primitives import BaseSamplerV2
from typing_extensions import override

from lightning_qsgd.backends.samplers.aer import TranspilingSampler, prepared_for_aer
from lightning_qsgd.backends.samplers.sampling import Sampling, check_shots
from lightning_qsgd.circuits.by_name import call_by_name


@dataclass(frozen=True, eq=False)
class GivenSampling(Sampling):
    """Uses any `BaseSamplerV2`, with the pass manager that its circuits need.

    From Python; a config names a function that builds both, with `SamplingFromFunction`.

    Its results are taken as irreproducible: in a distributed run one process evaluates for all.
    Two of them are equal only if they are the same object.

    Args:
        given: The sampler.
        pass_manager: Transpiles the circuits for it; None if it takes them as they are.
        paid: Whether its circuits cost money: a limit on their number is then required.

    Raises:
        TypeError: If `given` is no `BaseSamplerV2`, or the pass manager has no ``run``.

    Example:
        >>> from qiskit.primitives import StatevectorSampler
        >>> GivenSampling(StatevectorSampler(default_shots=64)).reproducible
        False
    """

    given: BaseSamplerV2
    pass_manager: Any = None
    paid: bool = False

    shots = None
    reproducible = False
    local = False

    def __post_init__(self) -> None:
        if not isinstance(self.given, BaseSamplerV2):
            raise TypeError(
                f"Expected a BaseSamplerV2, got {type(self.given).__name__}: `SamplerQNN` cannot "
                "run circuits on it. Pass a sampler of the second generation, e.g. "
                "BackendSamplerV2(backend=...)."
            )
        if self.pass_manager is not None and not callable(getattr(self.pass_manager, "run", None)):
            raise TypeError(
                f"Expected `pass_manager` to have a `run`, got {type(self.pass_manager).__name__}: "
                "circuits could not be transpiled. Pass what generate_preset_pass_manager returns."
            )

    @override
    def sampler(self) -> BaseSamplerV2:
        return TranspilingSampler(prepared_for_aer(self.given), self.pass_manager)


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

    @override
    def sampler(self) -> BaseSamplerV2:
        returned = call_by_name(self.function, self.arguments)
        given = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned,)
        return GivenSampling(*given).sampler()


@dataclass(frozen=True)
class HardwareSampling(Sampling):
    """Draws shots on a device of IBM Quantum, through qiskit-ibm-runtime's client-side sampler.

    Devices draw shots that nobody can repeat: in a distributed run one process evaluates for all,
    and a resumed run draws other ones.

    Args:
        device: Name of the device, e.g. ``"ibm_torino"``.
        shots: Shots per circuit, at least 1.
        account: Name of the account saved with `QiskitRuntimeService.save_account`; None for the
            default one.
        optimization_level: Effort of transpilation, 0 to 3.

    Raises:
        ValueError: If `shots` or `optimization_level` is out of range; when it is built, if IBM
            knows no such account or device.

    Example:
        >>> HardwareSampling("ibm_torino", shots=1024).paid
        True
    """

    device: str
    shots: int
    account: str | None = None
    optimization_level: int = 1

    reproducible = False
    paid = True
    local = False

    def __post_init__(self) -> None:
        check_shots(self.shots)
        if self.optimization_level not in range(4):
            raise ValueError(
                f"Expected `optimization_level` from 0 to 3, got {self.optimization_level}: qiskit "
                "has no other. Use 1, or 3 for the shortest circuits."
            )

    @override
    def sampler(self) -> BaseSamplerV2:
        runtime = _runtime()
        device = self._opened(runtime)
        passes = generate_preset_pass_manager(
            optimization_level=self.optimization_level, backend=device, seed_transpiler=0
        )
        sampler = runtime.executor_sampler.Sampler(
            mode=device, options={"default_shots": self.shots}
        )
        return TranspilingSampler(sampler, passes)

    def _opened(self, runtime: Any) -> Any:
        try:
            return runtime.QiskitRuntimeService(name=self.account).backend(self.device)
        except Exception as error:  # of the account, of the device, or of the network
            account = "default account" if self.account is None else f"account {self.account!r}"
            raise ValueError(
                f"Cannot open {self.device!r} with the {account} of IBM Quantum: {error} Save the "
                "account with `QiskitRuntimeService.save_account`, or simulate with AerSampling "
                "and DeviceNoise."
            ) from error


def _runtime() -> Any:
    try:
        import qiskit_ibm_runtime
        import qiskit_ibm_runtime.executor_sampler  # the one beside it is deprecated
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Cannot reach IBM's devices: qiskit-ibm-runtime 0.50 is not installed. Run "
            "`pip install 'lightning-qsgd[hardware]'`, or use AerSampling."
        ) from error
    return qiskit_ibm_runtime
