"""Prepares a step, or lets it pass without its perturbation if the circuits failed."""

import logging

from lightning_qsgd.backends import SkippedStep
from lightning_qsgd.backends.circuit_account import ChargedTo
from lightning_qsgd.optimizers.entries_cache import EntriesCache
from lightning_qsgd.optimizers.own_state import OwnState
from lightning_qsgd.optimizers.perturbed_step import PerturbedStep

_LOGGER = logging.getLogger(__name__)


def prepare_or_skip(step: PerturbedStep, cache: EntriesCache, state: OwnState) -> None:
    """Prepare a step and count its circuits; where its backend asks for it, skip and count it.

    All circuits of a step are one evaluation, so a step is skipped as a whole or not at all.

    Args:
        step: What to prepare; it stays unprepared if it is skipped.
        cache: Finds the touched entries.
        state: Counts circuits and skipped steps.

    Raises:
        RuntimeError: If as many steps were skipped as the policy allows.
    """
    try:
        with ChargedTo(state):
            step.prepare(cache)
    except SkippedStep as request:
        if state.skipped >= request.limit:
            raise RuntimeError(
                f"Cannot skip another step: the circuits failed at {state.skipped} steps before, "
                f"and the limit of SkipOnFailure is {request.limit}. The last failure is "
                f"{request.reason}. No parameter was changed; repair the backend, or raise `limit`."
            ) from request
        state.skipped += 1
        _LOGGER.warning(
            "Step %d is taken without its perturbation (%d skipped so far): %s",
            *(state.steps, state.skipped, request.reason),
        )
