"""Gives up on a job that takes too long."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

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
