"""One evaluation of circuits: its keys, and the account that it is charged to."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


class CircuitAccount(Protocol):
    """Whatever keeps the count, such as the state of an optimizer."""

    circuits: int


class CircuitLimitReached(RuntimeError):  # noqa: N818 - it is no error of the circuits
    """Raised before a job that would exceed the limit; no failure policy catches it."""


_ACCOUNT: ContextVar[CircuitAccount | None] = ContextVar("account", default=None)


class ChargedTo:
    """Charges the circuits that are evaluated meanwhile to an account.

    A class, for a generator as a context costs twice as much at every step.

    Args:
        account: Keeps the count.
    """

    def __init__(self, account: CircuitAccount) -> None:
        self._account = account

    def __enter__(self) -> None:
        self._token = _ACCOUNT.set(self._account)

    def __exit__(self, *failure: object) -> None:
        _ACCOUNT.reset(self._token)


def current_account() -> CircuitAccount | None:
    """Return the account that circuits are charged to now, if any."""
    return _ACCOUNT.get()


def charge(account: CircuitAccount | None, circuits: int, limit: int | None) -> None:
    """Count circuits that are about to be evaluated.

    Args:
        account: Keeps the count; None counts nothing.
        circuits: Number of circuits of the job, each attempt anew.
        limit: Number of circuits that the account may reach; None sets none.

    Raises:
        CircuitLimitReached: If the limit would be exceeded; nothing is counted then.
    """
    before = 0 if account is None else account.circuits
    if limit is not None and before + circuits > limit:
        raise CircuitLimitReached(
            f"Cannot evaluate {circuits:,} more circuits: {before:,} were evaluated, and "
            f"`max_circuits` is {limit:,}. No parameter was changed; raise the limit, perturb "
            "fewer coordinates or train for fewer steps."
        )
    if account is not None:
        account.circuits += circuits


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


def keys_named(name: tuple[int, ...], circuits: int) -> np.ndarray:
    """Return keys that follow from a name alone, such as a seed and a number of calls.

    Args:
        name: Non-negative integers.
        circuits: Number of keys.

    Returns:
        Shape (circuits,), uint64.

    Example:
        >>> keys_named((3, 1), circuits=2).dtype
        dtype('uint64')
    """
    return np.random.SeedSequence(name).generate_state(circuits, np.uint64)


def _shifted(key: int, shift: int) -> int:
    return int(np.random.SeedSequence((key, shift)).generate_state(1, np.uint64)[0])
