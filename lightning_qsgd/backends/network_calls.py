"""Everything that stands between a backend and one call of its network."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lightning_qsgd.backends.evaluation import Evaluation
from lightning_qsgd.backends.failures import FailurePolicy
from lightning_qsgd.backends.one_process import evaluate_once
from lightning_qsgd.backends.time_limit import run_within

SUM_TOLERANCE = 1e-6


class NetworkCalls:
    """Runs the jobs of one evaluation: forwards, and later perhaps the gradient's.

    one process for all, if replicas could drift apart
        failure policy
            time limit
                the network, whose sampler counts the circuits of this attempt
            check that the result is finite

    Args:
        evaluation: What the network's sampler serves.
        policy: What follows a failure.
        timeout_seconds: How long one attempt may take; None waits for ever.
        drifts: Whether equal calls may differ, or one replica may fail alone.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        policy: FailurePolicy,
        timeout_seconds: float | None,
        drifts: bool,
    ) -> None:
        self._evaluation = evaluation
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        self._drifts = drifts

    def __call__(self, job: Callable[[], Any]) -> Any:
        """Run a job of the network and return what it returns."""
        if self._drifts:
            return evaluate_once(lambda: self._policy.run(lambda: self._attempt(job)))
        return self._policy.run(lambda: self._attempt(job))

    def _attempt(self, job: Callable[[], Any]) -> Any:
        evaluation = self._evaluation
        evaluation.jobs.clear()
        try:
            result = run_within(self._timeout_seconds, job)
        except BaseException as failure:  # an interrupt as well: what runs may cost money
            evaluation.cancel()
            if evaluation.refusal is not None:
                raise evaluation.refusal from failure
            raise
        _check(result)
        return result


def _check(result: Any) -> None:
    """Refuse probabilities, or derivatives of them, that cannot be right.

    Raises:
        FloatingPointError: If they are not finite, or probabilities do not sum to 1.
    """
    is_gradient = isinstance(result, tuple)
    arrays = [np.asarray(array) for array in (result if is_gradient else [result])]
    if not all(np.isfinite(array).all() for array in arrays if array.dtype != object):
        raise FloatingPointError(
            "The sampler returned probabilities that are not finite: its circuits cannot be "
            "trusted. No parameter was changed; check the sampler."
        )
    if not is_gradient and np.abs(arrays[0].sum(-1) - 1.0).max() > SUM_TOLERANCE:
        raise FloatingPointError(
            "The sampler returned probabilities that do not sum to 1: shots are missing, or their "
            "outcomes are not those of the circuit. No parameter was changed; check the sampler."
        )
