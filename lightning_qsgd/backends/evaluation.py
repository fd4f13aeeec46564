"""One call of a network: its keys, its jobs, and what they are charged to."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightning_qsgd.backends.circuit_account import (
    CircuitAccount,
    CircuitLimitReached,
    charge,
    current_account,
)


@dataclass
class Evaluation:
    """What belongs to one call of a network, whose sampler is shared by all calls.

    Attributes:
        keys: One uint64 per circuit of the call, shape (circuits,); None if none were given.
        limit: Circuits that the account may reach; None sets no limit.
        account: What the circuits are charged to.
        jobs: Jobs that were started, in their order.
        refusal: Why a job was not started, if it was not.
    """

    keys: np.ndarray | None = None
    limit: int | None = None
    account: CircuitAccount | None = field(default_factory=current_account)
    jobs: list[Any] = field(default_factory=list)
    refusal: CircuitLimitReached | None = None

    def charge(self, circuits: int) -> None:
        """Count circuits that are about to run.

        Raises:
            CircuitLimitReached: If there would be too many; kept as `refusal`, since a network
                wraps what its sampler raises.
        """
        try:
            charge(self.account, circuits, self.limit)
        except CircuitLimitReached as refusal:
            self.refusal = refusal
            raise

    def cancel(self) -> None:
        """Cancel the jobs; best effort, since many cannot be cancelled once they run."""
        for job in self.jobs:
            with suppress(Exception):  # the failure that led here is what counts
                job.cancel()


_CURRENT: ContextVar[Evaluation | None] = ContextVar("evaluation", default=None)


@contextmanager
def serving(evaluation: Evaluation) -> Iterator[None]:
    """Make samplers draw with the keys of this evaluation, in this thread."""
    token = _CURRENT.set(evaluation)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def keys_for(circuits: int) -> list[int]:
    """Return one key per circuit that a sampler was given.

    A gradient evaluates several shifted circuits for each one of the call, one after the other:
    each of those draws from a stream of its own.

    Args:
        circuits: Number of circuits in all pubs of a run.

    Raises:
        ValueError: If no keys were given, or their number does not fit.
    """
    evaluation = _CURRENT.get()
    if evaluation is None or evaluation.keys is None:
        raise ValueError(
            "Got no `keys`, and the sampler draws shots: each circuit draws them from a key of its "
            "own. Pass one uint64 per circuit."
        )
    keys = evaluation.keys
    shifts, rest = divmod(circuits, len(keys)) if len(keys) else (0, 0)
    if rest or not shifts:
        raise ValueError(
            f"Got {circuits} circuits and {len(keys)} keys: each circuit draws its shots from a "
            "key of its own. Pass one uint64 per circuit."
        )
    if shifts == 1:
        return [int(key) for key in keys]
    return [_shifted(int(key), shift) for key in keys for shift in range(shifts)]


def _shifted(key: int, shift: int) -> int:
    return int(np.random.SeedSequence((key, shift)).generate_state(1, np.uint64)[0])
