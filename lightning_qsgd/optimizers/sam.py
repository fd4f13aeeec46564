"""Sharpness-aware minimisation around any torch optimizer."""

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_qsgd.optimizers.rows import parameters_of


class SAM(Optimizer):
    r"""Takes the base optimizer's step with the gradient of the worst loss nearby.

    .. math::
        \hat\epsilon = \rho \, \frac{g(\theta)}{\lVert g(\theta) \rVert_2}, \qquad
        \theta \leftarrow \mathrm{base}\bigl(\theta,\; g(\theta + \hat\epsilon)\bigr)

    The norm runs over all parameters. Each step evaluates the closure twice and so costs about
    twice as much. Both evaluations draw the same numbers from torch's generators (CPU and CUDA),
    so that dropout masks are the same in both, and the same as in a run of the base alone.

    Three things to know:

    - What a model gathers while it is evaluated, it gathers twice per step, once of them at
      :math:`\theta + \hat\epsilon`: BatchNorm's running statistics, and the training loss and
      metrics that a LightningModule logs. Compare by validation metrics.
    - A gradient scaler (``precision="16-mixed"``) steps without a closure, which is refused.
    - Accumulated gradients are refused: only the last batch could be evaluated again.

    Args:
        params: Parameters or parameter groups.
        base: Makes the base optimizer from the parameters; a class_path in a config.
        rho: Radius of the neighbourhood, non-negative and finite. 0 is the base itself.

    Raises:
        TypeError: If `base` is not callable, or makes no torch optimizer.
        ValueError: If `rho` is out of range.

    Example:
        >>> theta = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = SAM([theta], lambda params: torch.optim.SGD(params, lr=0.1), rho=0.5)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (theta**2).sum()
        ...     loss.backward()
        ...     return loss
        >>> optimizer.step(closure).item()  # then 1 - 0.1 * 2 * (1 + 0.5)
        1.0
        >>> round(theta.item(), 4)
        0.7

    References:
        Foret et al. 2021, Sharpness-aware minimization for efficiently improving generalization,
        arXiv:2010.01412.
    """

    def __init__(
        self,
        params: Iterable[Any],
        base: Callable[[Iterable[Any]], Optimizer] = torch.optim.AdamW,
        rho: float = 0.05,
    ) -> None:
        if not (isfinite(rho) and rho >= 0):
            raise ValueError(
                f"Expected `rho` to be non-negative and finite, got {rho}: it is the radius of the "
                "neighbourhood. The paper uses 0.05."
            )
        made = base(params) if callable(base) else base
        if not callable(base) or not isinstance(made, Optimizer):
            raise TypeError(
                f"Expected `base` to make a torch optimizer from parameters, got {base!r}: SAM "
                "takes that optimizer's steps. Pass a class such as torch.optim.AdamW."
            )
        super().__init__(made.param_groups, made.defaults)
        self.__setstate__({"base": made, "rho": rho})

    def __getstate__(self) -> dict[str, Any]:
        return {"base": self.base, "rho": self.rho}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Groups, state and defaults are the base's own objects, so that there is one truth.
        base = state.get("base", self.__dict__.get("base"))
        shared = {name: getattr(base, name) for name in ("param_groups", "state", "defaults")}
        super().__setstate__({**state, **shared})

    base: Optimizer
    rho: float

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Clears the gradients, evaluates the loss and its gradients, returns the loss.

        Returns:
            The loss before the step.

        Raises:
            RuntimeError: If no closure is given, or it does not clear the gradients.
            TypeError: If a gradient is sparse.
        """
        if closure is None:
            raise RuntimeError(
                "Cannot take a SAM step without a closure: the loss must be evaluated a second "
                "time. Pass one that clears the gradients and calls backward. Lightning passes it "
                "in automatic optimization, except with precision='16-mixed': use 'bf16-mixed'."
            )
        closure = torch.enable_grad()(closure)
        loss = self._evaluate_first(closure)
        self._evaluate_nearby(closure)
        self.base.step()
        return loss

    def _evaluate_first(self, closure: Callable[[], Any]) -> Any:
        before = [parameter.grad for parameter in parameters_of(self.param_groups)]
        self._was_cleared = False
        with torch.random.fork_rng(self._cuda_devices()):
            loss = closure()
        pairs = zip(parameters_of(self.param_groups), before, strict=True)
        kept = any(old is not None and parameter.grad is old for parameter, old in pairs)
        if kept and not self._was_cleared:
            raise RuntimeError(
                "Cannot take a SAM step on accumulated gradients: only the last batch could be "
                "evaluated a second time. Call `zero_grad` in the closure, and leave Lightning's "
                "`accumulate_grad_batches` at 1."
            )
        return loss

    def _evaluate_nearby(self, closure: Callable[[], Any]) -> None:
        """Leave the gradients at the worst point nearby; the parameters come back bit for bit."""
        moving = [p for p in parameters_of(self.param_groups) if p.grad is not None]
        kept = [parameter.detach().clone() for parameter in moving]
        try:
            self._climb()
            self.base.zero_grad()
            closure()
        finally:
            for parameter, value in zip(moving, kept, strict=True):
                parameter.copy_(value)

    def _climb(self) -> None:
        """Move to where the loss is worst nearby, to first order: down where it is maximised."""
        norm = self._gradient_norm()
        factor = torch.where(norm > 0, self.rho / norm, 0.0)
        for group in self.param_groups:
            signed = -factor if group.get("maximize") else factor
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad * signed.to(parameter.device))

    def _gradient_norm(self) -> Tensor:
        gradients = [p.grad for p in parameters_of(self.param_groups) if p.grad is not None]
        if any(gradient.layout != torch.strided for gradient in gradients):
            raise TypeError(
                "Cannot take a SAM step on a sparse gradient: the entries that it leaves out would "
                "have to move, too. Use an embedding with sparse=False."
            )
        if not gradients:
            return torch.zeros(())
        device = gradients[0].device
        norms = [torch.linalg.vector_norm(gradient).to(device) for gradient in gradients]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return norm

    def _cuda_devices(self) -> list[int]:
        devices = {p.device for p in parameters_of(self.param_groups) if p.device.type == "cuda"}
        return sorted(device.index for device in devices)

    def zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """Clear the gradients; see the base."""
        self._was_cleared = True
        self.base.zero_grad(*args, **kwargs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group to the base."""
        if "base" in self.__dict__:
            self.base.add_param_group(param_group)
        else:  # torch's own constructor reads the base's groups
            super().add_param_group(param_group)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the base's state, which the base alone loads as well."""
        return self.base.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Load a state of this class or of the plain base; see the base for other arguments."""
        self.base.load_state_dict(state_dict, *args, **kwargs)
        self.__setstate__({})
