"""Ties a network to one evaluation."""

from collections.abc import Iterable
from copy import copy
from typing import Any

from qiskit.primitives import BaseSamplerV2, SamplerPubLike
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit_machine_learning.neural_networks import SamplerQNN

from lightning_qsgd.backends.evaluation import Evaluation, serving


class BoundSampler(BaseSamplerV2):  # type: ignore[misc]
    """Serves one evaluation with a sampler that knows nothing of it.

    Gradients run their circuits in a thread of their own, so what they belong to has to come with
    the sampler and not from the thread.

    Args:
        sampler: Runs the circuits.
        evaluation: Counts them, keeps their jobs and holds their keys.
    """

    def __init__(self, sampler: BaseSamplerV2, evaluation: Evaluation) -> None:
        self.sampler = sampler
        self.evaluation = evaluation

    def run(self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None) -> Any:
        """Start one job for all circuits; see `BaseSamplerV2.run`."""
        pubs = list(pubs)
        self.evaluation.charge(sum(SamplerPub.coerce(pub).size for pub in pubs))
        with serving(self.evaluation):
            job = self.sampler.run(pubs, shots=shots)
        self.evaluation.jobs.append(job)
        return job


def bind(network: SamplerQNN, evaluation: Evaluation) -> SamplerQNN:
    """Return the network for one evaluation, sharing everything but its sampler.

    The circuits that a gradient has prepared stay with the original for the next evaluation.
    """
    sampler = BoundSampler(network.sampler, evaluation)
    bound = copy(network)
    bound.sampler = sampler
    bound.gradient = copy(network.gradient)
    bound.gradient._sampler = sampler
    return bound
