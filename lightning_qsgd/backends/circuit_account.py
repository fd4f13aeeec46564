"""Counts the circuits of a training, and stops before there are too many."""

from contextvars import ContextVar
from typing import Protocol


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
