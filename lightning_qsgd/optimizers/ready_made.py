"""Perturbed optimizers that build their base themselves, and Adam as Eq. 1 prints it."""

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_qsgd.backends import SineBackend
from lightning_qsgd.optimizers.perturbed import PerturbedOptimizer
from lightning_qsgd.perturbations import Coordinates, FirstOfModel, Perturbation


class PaperAdam(Optimizer):
    r"""The classical half of Eq. 1, to the letter.

    .. math::
        m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad
        \theta_{t+1} = \theta_t - \alpha \, m_t / \sqrt{v_t + \epsilon}

    It differs from `torch.optim.Adam` in two ways: the moments are not corrected for their zero
    start, and epsilon stands inside the root. The text of the paper also says that it "extends
    Adam", which reads as torch's form; this class exists for reproduction. In the project's own
    measurements it trained worse than torch's Adam.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate alpha, non-negative.
        betas: Decay rates of the two moments, each in [0, 1).
        eps: Epsilon inside the root, positive.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> theta = torch.nn.Parameter(torch.tensor([1.0]))
        >>> theta.grad = torch.tensor([2.0])
        >>> PaperAdam([theta], lr=0.1).step()  # 1 - 0.1 * 0.2 / sqrt(0.004 + 1e-8)
        >>> round(theta.item(), 4)
        0.6838

    References:
        arXiv:2511.01918, Eq. 1.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not (lr >= 0 and isfinite(lr)):
            raise ValueError(
                f"Expected `lr` to be non-negative and finite, got {lr}: it scales the step. "
                "The paper uses 1e-3."
            )
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"Expected both `betas` in [0, 1), got {betas}: the moments would not be means. "
                "The paper uses (0.9, 0.999)."
            )
        if not eps > 0:
            raise ValueError(
                f"Expected `eps` to be positive, got {eps}: the root could be zero. The paper "
                "uses 1e-8."
            )
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if gradient.is_sparse or parameter.is_complex():
            raise TypeError(
                "PaperAdam takes dense real gradients only: Eq. 1 is written for them. Use an "
                "embedding with sparse=False, or another base optimizer."
            )
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        beta1, beta2 = group["betas"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (state["exp_avg_sq"] + group["eps"]).sqrt_()
        parameter.sub_(group["lr"] * state["exp_avg"] / root)


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

    known_as = "SuperpositionalAdam"

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


class ConfiguredPerturbedOptimizer(PerturbedOptimizer):
    """Builds the base optimizer from parameters, then wraps it.

    `LightningCLI` and other config systems hand an optimizer its parameters; this class takes
    them first and passes them on, so that it can stand as ``--optimizer`` in any config.

    Args:
        params: Parameters or parameter groups.
        base: Makes the base optimizer from the parameters; a class_path in a config.
        perturbation: What to add to its steps.

    Raises:
        TypeError: If `base` is not callable, or makes no torch optimizer.
        ValueError: If the perturbation does not fit the base.

    Example:
        >>> weights = [torch.nn.Parameter(torch.ones(3))]
        >>> type(ConfiguredPerturbedOptimizer(weights, base=torch.optim.AdamW).base).__name__
        'AdamW'
    """

    def __init__(
        self,
        params: Iterable[Any],
        base: Callable[[Iterable[Any]], Optimizer] = torch.optim.AdamW,
        perturbation: Perturbation | None = None,
    ) -> None:
        if not callable(base):
            raise TypeError(
                f"Expected `base` to make an optimizer from parameters, got {base!r}, which is "
                "not callable. Pass a class such as torch.optim.AdamW, or use PerturbedOptimizer "
                "for an instance."
            )
        super().__init__(base(params), perturbation)


class EmbeddingAdamW(torch.optim.AdamW):
    """AdamW whose first matrix, the embedding, has a learning rate of its own.

    A row of an embedding gets a gradient only where its token occurs, and wants a larger step.

    Args:
        params: Parameters, the embedding's first among the matrices.
        lr: Learning rate of all others, non-negative.
        betas: Decay rates of the two moments.
        weight_decay: Decoupled weight decay of all, non-negative.
        embedding_multiple: The embedding's learning rate over `lr`, positive.

    Raises:
        ValueError: If there is no matrix, or the multiple is not positive.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 2))
        >>> optimizer = EmbeddingAdamW(network.parameters(), lr=0.01, embedding_multiple=8.0)
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.08, 0.01]
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
        embedding_multiple: float = 1.0,
    ) -> None:
        parameters = list(params)
        place = next((i for i, each in enumerate(parameters) if each.dim() == 2), None)
        if place is None or not embedding_multiple > 0:
            raise ValueError(
                f"Expected a matrix among the parameters and a positive `embedding_multiple`, got "
                f"{embedding_multiple}: the first matrix is the embedding, whose rate it "
                "multiplies. Use torch.optim.AdamW for a network without one."
            )
        embedding: dict[str, Any] = {
            "params": [parameters.pop(place)],
            "lr": lr * embedding_multiple,
        }
        groups: list[dict[str, Any]] = [embedding]
        if parameters:
            groups.append({"params": parameters})
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay)
