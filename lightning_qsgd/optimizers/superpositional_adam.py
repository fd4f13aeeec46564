"""Eq. 1 and Eq. 2 to the letter, as one optimizer."""

from typing import Any

from lightning_qsgd.backends import SineBackend
from lightning_qsgd.optimizers.paper_adam import PaperAdam
from lightning_qsgd.optimizers.perturbed import PerturbedOptimizer
from lightning_qsgd.perturbations import Coordinates, FirstOfModel, Perturbation


class SuperpositionalAdam(PerturbedOptimizer):
    """The paper's optimizer: `PaperAdam` plus ``lr * strength * sin(pi theta) * g``.

    For reproduction only; to perturb an optimizer of your choice use `PerturbedOptimizer`.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate alpha, non-negative.
        betas: Decay rates of the two moments.
        eps: Epsilon inside the root.
        strength: Quantum weight lambda, non-negative; the paper uses 0.1 and 0.5.
        coordinates: What i of Eq. 2 runs over; by default the whole model's flat vector.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> theta = torch.nn.Parameter(torch.tensor([0.5]))
        >>> theta.grad = torch.tensor([2.0])
        >>> SuperpositionalAdam([theta], lr=0.1).step()
        >>> round(theta.item(), 4)  # 0.5 - 0.1 * (0.2 / sqrt(0.004 + 1e-8) + 0.5 * 1 * 2)
        0.0838

    References:
        arXiv:2511.01918, Eq. 1 and 2.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        strength: float = 0.5,
        coordinates: Coordinates | None = None,
    ) -> None:
        perturbation = Perturbation(
            backend=SineBackend(num_qubits=4),
            coordinates=FirstOfModel() if coordinates is None else coordinates,
            strength=strength,
        )
        super().__init__(PaperAdam(params, lr=lr, betas=betas, eps=eps), perturbation)
