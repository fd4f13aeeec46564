"""Calls that may hang, fail, or differ between processes: time limits, retries, one for all."""

import pickle
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import torch.distributed as dist

from lightning_qsgd.backends.evaluation import Evaluation
from lightning_qsgd.backends.failures import FailurePolicy

T = TypeVar("T")


def run_within(seconds: float | None, job: Callable[[], T]) -> T:
    """Run a job, waiting for it no longer than asked.

    Args:
        seconds: How long to wait; None waits for ever, without a thread of its own.
        job: What to run; it must not need the context variables of this thread.

    Raises:
        TimeoutError: If the job takes longer. Its thread is abandoned: Python cannot stop it.
    """
    if seconds is None:
        return job()
    outcomes: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            outcomes.put((job(), None))
        except BaseException as failure:  # raised again in the thread that waits
            outcomes.put((None, failure))

    Thread(target=work, daemon=True).start()
    try:
        result, failure = outcomes.get(timeout=seconds)
    except Empty:
        raise TimeoutError(
            f"The circuits took longer than {seconds:g} s, which is `timeout_seconds`: the backend "
            "hangs or is busy. Allow more time, or say with `on_failure` what shall follow."
        ) from None
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def evaluate_once(job: Callable[[], T]) -> T:
    """Run a job on the first process and give its result, or its exception, to all of them.

    Replicas whose steps differ would drift apart silently: with shots that nobody can repeat, and
    with failures that one of them meets alone.

    Args:
        job: What to run; its result must pickle.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return job()
    outcome: list[Any] = [None]
    failure: Exception | None = None
    if dist.get_rank() == 0:
        try:
            outcome = [(job(), None)]
        except Exception as caught:
            failure = caught
            outcome = [(None, _portable(caught))]
    dist.broadcast_object_list(outcome, src=0)
    if failure is not None:
        raise failure
    result, failure = outcome[0]
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def _portable(failure: Exception) -> Exception:
    """Return the exception, or its words if it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(failure))
    except Exception:
        return RuntimeError(f"{type(failure).__name__}: {failure}")
    return failure


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
            return evaluate_once(lambda: self._under_policy(job))
        return self._under_policy(job)

    def _under_policy(self, job: Callable[[], Any]) -> Any:
        """Return what the job returned: a policy of the user's may make up something else."""
        results: list[Any] = []

        def attempt() -> Any:
            results.append(self._attempt(job))
            return results[-1]

        result = self._policy.run(attempt)
        if self._evaluation.refusal is not None:
            raise self._evaluation.refusal
        if not any(result is each for each in results):
            raise TypeError(
                f"`run` of {type(self._policy).__name__} returned something else than its job did: "
                "no circuit has read that. No parameter was changed; return what `job()` returns, "
                "or raise."
            )
        return result

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
