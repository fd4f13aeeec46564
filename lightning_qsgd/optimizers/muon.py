"""Muon for the matrices inside a network, AdamW for the rest: one optimizer.

    matrices   B <- momentum * B + (1 - momentum) * g,   M = (1 - momentum) * g + momentum * B
               theta <- (1 - lr * weight_decay) * theta - lr * sqrt(max(1, rows / columns)) * O(M)
    the rest   AdamW with its own learning rate

O(M) is close to U V^T for M = U S V^T: every singular direction moves equally far.
"""

from collections.abc import Callable, Iterable, Sequence
from math import isfinite, sqrt
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from lightning_qsgd.perturbations.spectrum import exact_part
from lightning_qsgd.perturbations.step import is_matrix

ORTHOGONALIZED = "orthogonalize"
"""Key of a parameter group: whether Muon takes it, or AdamW."""

_ITERATION_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class MuonWithAdamW(Optimizer):
    """Trains hidden matrices by Muon, and embeddings, heads and vectors by AdamW.

    torch's Muon takes matrices only, and two optimizers fit into few training loops. This one has
    one list of groups and one state, and equals the two run side by side bit for bit. Kernels of
    convolutions count as matrices of shape (output channels, everything else).

    An embedding and a head are matrices, too, but belong to AdamW. Their shapes do not tell, so
    they are named by their position among the matrices.

    Args:
        params: Parameters or parameter groups. A group may say `orthogonalize`: true or false for
            all of it; `others` then does not count its matrices.
        lr: Learning rate of the matrices, non-negative.
        weight_decay: Decoupled weight decay of both, non-negative.
        momentum: Muon's momentum, in [0, 1).
        adamw_lr: Learning rate of AdamW, non-negative.
        iteration_dtype: "bfloat16" as torch's Muon, or "float32": closer, and many times quicker
            on CPUs without units for bfloat16.
        others: Positions of matrices that AdamW takes, in the order of `params`, negative ones
            from the end. The default is the first and the last: embedding and head. Tied weights
            are one matrix: use [0]. A perceptron without embedding: use [-1].

    Raises:
        ValueError: If a number or `iteration_dtype` is out of range, `others` names a matrix that
            is not there, or no matrix is left for Muon.

    Example:
        >>> network = torch.nn.Sequential(
        ...     torch.nn.Embedding(9, 4), torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)
        ... )
        >>> optimizer = MuonWithAdamW(network.parameters())
        >>> [[tuple(p.shape) for p in group["params"]] for group in optimizer.param_groups]
        [[(8, 4)], [(9, 4), (8,), (3, 8), (3,)]]

    References:
        Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks,
        https://kellerjordan.github.io/posts/muon
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        adamw_lr: float = 1e-3,
        others: Sequence[int] = (0, -1),
        iteration_dtype: Literal["bfloat16", "float32"] = "bfloat16",
    ) -> None:
        rates = {"lr": lr, "weight_decay": weight_decay, "adamw_lr": adamw_lr}
        _check_rates(rates, momentum)
        if iteration_dtype not in _ITERATION_DTYPES:
            raise ValueError(
                f"Unknown `iteration_dtype` {iteration_dtype!r} of Muon: its iteration runs in "
                f"{' or '.join(_ITERATION_DTYPES)}. Choose one of them."
            )
        stand_in = [torch.zeros(1, 1)]
        muon = Muon(stand_in, lr=lr, weight_decay=weight_decay, momentum=momentum).defaults
        muon = {**muon, "iteration_dtype": iteration_dtype}
        adamw = AdamW(stand_in, lr=adamw_lr, weight_decay=weight_decay).defaults
        self._own = {True: {**adamw, **muon}, False: {**muon, **adamw}}
        self._adamw: AdamW | None = None
        super().__init__(_divided(list(params), others), {**adamw, **muon})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices, or of parameters for AdamW.

        Raises:
            ValueError: If it does not say which, or has something else than matrices for Muon.
        """
        kind = param_group.get(ORTHOGONALIZED)
        if not isinstance(kind, bool):
            raise ValueError(
                f"Cannot add a parameter group whose `{ORTHOGONALIZED}` is {kind!r}: shapes do not "
                "tell a hidden matrix from an embedding. Set it to True for matrices that Muon "
                "takes, to False for AdamW."
            )
        for name, value in self._own[kind].items():
            param_group.setdefault(name, value)
        super().add_param_group(param_group)
        wrong = [tuple(p.shape) for p in param_group["params"] if kind and not is_matrix(p)]
        if wrong:
            self.param_groups.pop()
            raise ValueError(
                f"Cannot orthogonalize parameters of shape {', '.join(map(str, wrong))}: Muon "
                "takes real matrices and kernels. Move them to a group with "
                f"`{ORTHOGONALIZED}: False`."
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._adamw = None  # groups and state were replaced

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_own": self._own}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Re-evaluates the model and returns the loss, or None.

        Returns:
            What the closure returns.

        Raises:
            TypeError: If the gradient of a matrix is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group[ORTHOGONALIZED]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._move(parameter, parameter.grad, group)
        self._move_others()
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if gradient.layout != torch.strided:
            raise TypeError(
                "Cannot orthogonalize a sparse gradient: most of its entries are not stored. Move "
                f"the parameter to a group with `{ORTHOGONALIZED}: False`, or use sparse=False."
            )
        gradient = -gradient if group["maximize"] else gradient
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum, buffer = group["momentum"], state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        update = gradient.lerp(buffer, momentum) if group["nesterov"] else buffer
        matrix = update.flatten(1)
        direction = self.orthogonalized(matrix, group).reshape(parameter.shape)
        lr = float(group["lr"])
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.add_(direction, alpha=-_adjusted(lr, group["adjust_lr_fn"], matrix.shape))

    def orthogonalized(self, matrix: Tensor, group: dict[str, Any]) -> Tensor:
        """Return what is close to U V^T, by Newton and Schulz's iteration.

        Args:
            matrix: M, shape (rows, columns).
            group: Its parameter group.
        """
        # Groups of checkpoints that were written before there was a choice say nothing.
        dtype = _ITERATION_DTYPES[group.get("iteration_dtype", "bfloat16")]
        return newton_schulz(
            matrix.to(dtype), group["ns_coefficients"], group["ns_steps"], group["eps"]
        )

    def _move_others(self) -> None:
        groups = [group for group in self.param_groups if not group[ORTHOGONALIZED]]
        if not groups:
            return
        if self._adamw is None:
            self._adamw = AdamW(groups)
        # The same objects as this optimizer's: one truth for schedulers and checkpoints.
        self._adamw.param_groups, self._adamw.state = groups, self.state
        self._adamw.step()


class ExactMuonWithAdamW(MuonWithAdamW):
    """`MuonWithAdamW` with U V^T itself, by a decomposition, where Muon comes close to it.

    Newton and Schulz's iteration leaves singular values between about 0.7 and 1.2. A singular value
    below 1e-5 of the largest counts as noise, and its direction moves less. As with Muon, a
    gradient that is not finite makes the matrix NaN, where one sees it.

    Example:
        >>> theta = torch.nn.Parameter(torch.zeros(2, 2))
        >>> optimizer = ExactMuonWithAdamW([theta], lr=0.1, weight_decay=0.0, others=[])
        >>> theta.grad = torch.tensor([[3.0, 0.0], [0.0, -0.5]])
        >>> optimizer.step()
        >>> theta.abs()
        tensor([[0.1000, 0.0000],
                [0.0000, 0.1000]], grad_fn=<AbsBackward0>)
    """

    def orthogonalized(self, matrix: Tensor, group: dict[str, Any]) -> Tensor:
        """Return U V^T; see `MuonWithAdamW.orthogonalized`."""
        direction = exact_part(matrix[None], torch.ones_like, linear_below=1e-5)[0]
        return torch.where(torch.isfinite(matrix).all(), direction, torch.nan)


def newton_schulz(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    r"""Move all singular values of a matrix near 1: :math:`X \leftarrow (a + b G + c G^2) X`.

    :math:`G = X X^T` is the smaller Gram matrix. The same operations in the same order as torch's.

    Args:
        matrix: Shape (rows, columns), in the type to calculate in.
        coefficients: a, b and c.
        steps: Number of iterations.
        eps: Least norm that the matrix is divided by.

    Returns:
        The same shape and type.
    """
    a, b, c = coefficients
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x.div(x.norm().clamp(min=eps))
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


def _adjusted(lr: float, rule: str | None, shape: Sequence[int]) -> float:
    rows, columns = shape
    if rule == "match_rms_adamw":
        return lr * 0.2 * sqrt(max(rows, columns))
    return lr * sqrt(max(1, rows / columns))


def _divided(params: list[Any], others: Sequence[int]) -> list[dict[str, Any]]:
    """Cut each group into matrices for Muon and the rest, unless it says what it is."""
    groups = params if params and isinstance(params[0], dict) else [{"params": params}]
    groups = [{**group, "params": _listed(group["params"])} for group in groups]
    open_groups = [group for group in groups if ORTHOGONALIZED not in group]
    matrices = [p for group in open_groups for p in group["params"] if is_matrix(_tensor(p))]
    taken = _without(matrices, others) if open_groups else set()
    divided = []
    for group in groups:
        if ORTHOGONALIZED in group:
            divided.append(group)
            continue
        _refuse_open_rates(group)
        for kind in (True, False):
            own = [p for p in group["params"] if (id(_tensor(p)) in taken) is kind]
            if own:
                divided.append({**group, "params": own, ORTHOGONALIZED: kind})
    if not any(group[ORTHOGONALIZED] for group in divided):
        raise ValueError(
            f"No matrix is left for Muon: of {len(matrices)}, `others` gives {list(others)} to "
            "AdamW. Name fewer, or use AdamW."
        )
    return divided


def _without(matrices: list[Any], others: Sequence[int]) -> set[int]:
    """Return the identities of the matrices that `others` does not name."""
    shapes = [tuple(_tensor(parameter).shape) for parameter in matrices]
    outside = [position for position in others if not -len(shapes) <= position < len(shapes)]
    if outside:
        raise ValueError(
            f"Expected `others` to name positions among {len(shapes)} matrices, got {outside[0]}. "
            f"The matrices are {shapes}; count from 0, or from -1 backwards."
        )
    left_out = {id(_tensor(matrices[position])) for position in others}
    return {id(_tensor(parameter)) for parameter in matrices} - left_out


def _listed(params: Any) -> list[Any]:
    return [params] if isinstance(params, Tensor) else list(params)


def _tensor(parameter: Any) -> Tensor:
    """Return the tensor of a parameter, which may come with its name."""
    tensor: Tensor = parameter[1] if isinstance(parameter, tuple) else parameter
    return tensor


def _check_rates(rates: dict[str, float], momentum: float) -> None:
    for name, value in rates.items():
        if not (isfinite(value) and value >= 0):
            raise ValueError(
                f"Expected `{name}` to be non-negative and finite, got {value}: it scales a step. "
                "Muon's usual learning rate is 0.02, AdamW's 0.001."
            )
    if not 0 <= momentum < 1:
        raise ValueError(
            f"Expected `momentum` in [0, 1), got {momentum}: it weighs the gradients before this "
            "one. Muon's usual value is 0.95."
        )


def _refuse_open_rates(group: dict[str, Any]) -> None:
    odd = [name for name in ("lr", "eps") if name in group]
    if odd:
        raise ValueError(
            f"Cannot divide a parameter group that sets `{odd[0]}`: Muon and AdamW need different "
            f"ones. Say `{ORTHOGONALIZED}` in the group, or set `lr` and `adamw_lr`."
        )
