"""Says once that circuits take most of a training's time, and what would be faster."""

from collections.abc import Callable

from lightning_qsgd.backends import Backend, CompiledBackend, ExactSampling, SamplerBackend
from lightning_qsgd.backends.forecast import forecast_step
from lightning_qsgd.optimizers import StepReport

SLOW_SECONDS = 0.5
"""A perturbation that takes longer per step is worth a word, in seconds."""

SLOW_SHARE = 0.5
"""And only if it takes at least this share of the step."""


class SlowCircuits:
    """Watches the first measured steps of one optimizer.

    The first one builds and transpiles circuits, so that the second is the first to count.

    Args:
        say: Shows a message to the user.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._seen = 0
        self._said = False

    def see(self, report: StepReport, step_seconds: float, backend: Backend) -> None:
        """Take note of a measured step, and speak once if its circuits are slow.

        Args:
            report: The step's report.
            step_seconds: What the whole training step took, in seconds.
            backend: What evaluates the circuits.
        """
        self._seen += 1
        share = min(1.0, report.seconds / step_seconds) if step_seconds > 0 else 0.0
        slow = report.seconds >= SLOW_SECONDS and share >= SLOW_SHARE
        if self._said or self._seen < 2 or not slow or report.circuits == 0:
            return
        self._said = True
        self._say(
            f"{step_seconds:.2g} s per step, {share:.0%} of it in {report.circuits:,} circuits; "
            f"{_advice(backend, report.circuits)}"
        )


def _advice(backend: Backend, circuits: int) -> str:
    fewer = "perturb fewer entries, or one step in several (`every` of Strength)."
    if not isinstance(backend, SamplerBackend) or not isinstance(backend.recipe, ExactSampling):
        return fewer
    try:
        compiled = CompiledBackend(backend.circuit, backend.weight_seed)
        seconds = forecast_step(compiled, circuits).seconds
    except ValueError:  # a gate that only the reference knows, or too little memory
        return fewer
    time = f"{seconds * 1e3:.2g} ms" if seconds < 1 else f"{seconds:.2g} s"
    return f"CompiledBackend gives the same numbers in {time}."
