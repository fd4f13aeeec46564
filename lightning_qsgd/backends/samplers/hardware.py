"""Shots of IBM's devices."""

from dataclasses import dataclass
from typing import Any

from qiskit import generate_preset_pass_manager
from qiskit.primitives import BaseSamplerV2
from typing_extensions import override

from lightning_qsgd.backends.samplers.aer import TranspilingSampler
from lightning_qsgd.backends.samplers.sampling import Sampling, check_shots


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
            "`pip install lightning-qsgd[hardware]`, or use AerSampling."
        ) from error
    return qiskit_ibm_runtime
