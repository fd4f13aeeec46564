"""Lets one process of a distributed run evaluate for all."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


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
