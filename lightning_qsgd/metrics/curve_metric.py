"""The torchmetrics base of all convergence metrics: it collects the points of a curve."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.plot import plot_curve

from lightning_qsgd.metrics.functional import merge_equal_steps


def append_points(chunks: list[Tensor], points: Tensor) -> None:
    """Append numbers to a list state, in place.

    Args:
        chunks: 1-D tensors whose concatenation is the recorded sequence.
        points: The next numbers, shape (n,), same dtype and device.

    Example:
        >>> chunks = [torch.tensor([1.0])]
        >>> append_points(chunks, torch.tensor([2.0]))
        >>> chunks
        [tensor([1., 2.])]
    """
    chunks.append(points)
    compact(chunks)


def compact(chunks: list[Tensor]) -> None:
    """Join the last chunks while the last is as long as the one before it, in place.

    Like the carries of a binary counter: after n appended numbers there are at most log2(n) + 1
    chunks, and every number was copied at most log2(n) times. A checkpoint of 100,000 steps then
    holds 17 tensors rather than 100,000, and `forward`, which copies the list, stays cheap. In
    place, because torchmetrics lets the metrics of a collection share one list.

    Args:
        chunks: 1-D tensors of one dtype and device.

    Example:
        >>> chunks = [torch.zeros(2), torch.zeros(1), torch.zeros(1)]
        >>> compact(chunks)
        >>> [len(chunk) for chunk in chunks]
        [4]
    """
    while len(chunks) > 1 and chunks[-1].numel() >= chunks[-2].numel():
        chunks[-2:] = [torch.cat(chunks[-2:])]


class CurveMetric(Metric):
    """Collect a training curve point by point and summarise it in one number.

    A subclass says in `_summarise` what the number is and in `_mark` how it looks in a plot. The
    points are kept in float64 whatever the precision of the model, on the device of the metric,
    so that large global steps stay exact; `compute` returns float64 too. The states are lists
    reduced by `cat`: points of several processes, of `merge_state` or of a checkpoint simply come
    together, and values that share a step are averaged. All states are persistent, hence part of
    every checkpoint that contains the metric.

    `forward(value, step)` returns the summary of that single point.

    Args:
        **kwargs: Keyword arguments of `torchmetrics.Metric`, such as `sync_on_compute`.
    """

    is_differentiable = False
    full_state_update = False
    step_name: ClassVar[str] = "global step"

    steps: list[Tensor] | Tensor
    values: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # A process without points takes part in the synchronisation with an empty tensor of this
        # dtype; were it float32, it would not fit the float64 points of the others.
        self.set_dtype(torch.float64)
        self.add_state("steps", [], dist_reduce_fx="cat", persistent=True)
        self.add_state("values", [], dist_reduce_fx="cat", persistent=True)

    def update(self, value: Tensor | float, step: Tensor | float) -> None:
        """Record one point, or several at once.

        Args:
            value: Scalar in the metric's unit, or shape (n,); NaN and infinity are recorded as they
                are.
            step: Where each value was observed: of the same shape, finite and non-negative.

        Raises:
            ValueError: If `value` and `step` are neither two single numbers nor equally many, or a
                step is negative, NaN or infinite.
            RuntimeError: If the metric currently holds the points of all processes.
        """
        if self._is_synced:
            raise RuntimeError(
                f"Cannot record a point in {type(self).__name__}: it is synchronised, and `unsync` "
                "would drop the point. Call `unsync()` first."
            )
        values, steps = _points(value, step)
        bad = steps[~(steps.isfinite() & (steps >= 0))]
        if bad.numel():
            raise ValueError(
                f"Expected `step` to be finite and non-negative, got {float(bad[0])}: it counts "
                "the work done since the start of training. Pass the global step."
            )
        append_points(self._list("steps"), steps.to(self.device, torch.float64, copy=True))
        append_points(self._list("values"), values.to(self.device, torch.float64, copy=True))

    def compute(self) -> Tensor:
        """Summarise the points recorded so far, on all processes.

        Returns:
            A float64 scalar on the metric's device; nan if there are no points.
        """
        summary = self._summarise(*self.curve()) if self.num_points else math.nan
        return torch.tensor(summary, dtype=torch.float64, device=self.device)

    def curve(self) -> tuple[Tensor, Tensor]:
        """Return the recorded points as a curve, values that share a step averaged.

        Returns:
            Strictly increasing steps and their values, each of shape (n,), float64, on the CPU.

        Raises:
            ValueError: If no point was recorded.
        """
        if not self.num_points:
            raise ValueError(
                f"Expected {type(self).__name__} to hold at least one point, got none: there is "
                "no curve. Call `update(value, step)` first."
            )
        return merge_equal_steps(dim_zero_cat(self.steps), dim_zero_cat(self.values))

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> tuple[Any, Any]:
        """Draw the curve of this process with the summary marked in it.

        Args:
            val: One or several results of `compute` or `forward`, drawn instead of the curve.
            ax: Matplotlib axes to draw on; new ones by default.

        Returns:
            Figure and axes.

        Raises:
            ValueError: If no point was recorded.
            ModuleNotFoundError: If matplotlib is not installed.
        """
        if val is not None:
            _, ax = self._plot(val, ax)
            return ax.get_figure(), ax
        steps, values = self.curve()
        name = type(self).__name__
        _, ax = plot_curve((steps, values, steps), ax=ax, label_names=(self.step_name, "value"))
        ax.lines[-1].set_label("curve")
        self._mark(ax, steps, values)
        ax.set_title(name)
        ax.legend()
        return ax.get_figure(), ax

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add the points of another metric of the same class, or of its state.

        Args:
            incoming_state: A metric, or the dictionary `metric.metric_state`.
        """
        super().merge_state(incoming_state)
        self._forget_result()

    @abstractmethod
    def _summarise(self, steps: Tensor, values: Tensor) -> float:
        """Reduce a curve, as `curve()` returns it, to one number."""

    @abstractmethod
    def _mark(self, ax: Any, steps: Tensor, values: Tensor) -> None:
        """Draw the summary into the axes that already show the curve."""

    def _list(self, name: str) -> list[Tensor]:
        state = getattr(self, name)
        return state if isinstance(state, list) else [state]

    @property
    def num_points(self) -> int:
        """How many points were recorded, on this process unless the metric is synchronised."""
        return sum(chunk.numel() for chunk in self._list("steps"))

    def _forget_result(self) -> None:
        # torchmetrics neither drops the cached result nor counts updates when points arrive by
        # any other way than `update`: `compute` would return the old result, or warn.
        self._computed = None
        self._update_count = self.num_points

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        super()._reduce_states(incoming_state)
        for name in self._defaults:
            compact(self._list(name))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        for name in self._defaults:
            # A new list, because `update` and `reset` would otherwise change the checkpoint; on
            # the metric's device, because a checkpoint is usually read to the CPU.
            loaded = [chunk.to(self.device, torch.float64) for chunk in self._list(name)]
            setattr(self, name, loaded)
        self._forget_result()

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        # `module.to(torch.bfloat16)` would round global steps above 256: follow `fn` to its
        # device, never to its dtype.
        device = _float64_device(fn(torch.empty(0, device=self.device)).device)
        return super()._apply(lambda t: t.to(device, torch.float64), exclude_state)


def _float64_device(device: torch.device) -> torch.device:
    # Apple's MPS has no float64 and only one process, so its curves can stay on the CPU.
    return torch.device("cpu") if device.type == "mps" else device


def _points(value: Tensor | float, step: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return values and steps, both of shape (n,), detached."""
    values, steps = _tensor(value), _tensor(step)
    if values.shape == steps.shape and values.ndim == 1 and values.numel():
        return values, steps
    for tensor, name in ((values, "value"), (steps, "step")):
        if tensor.numel() != 1:
            raise ValueError(
                f"Expected `{name}` to be a single number, got shape {tuple(tensor.shape)}: a "
                "curve has one value per step. Reduce it first, for example with `.mean()`, or "
                "pass as many values as steps."
            )
    return values.reshape(1), steps.reshape(1)


def _tensor(number: Tensor | float) -> Tensor:
    # A plain float has the precision of float64; torch would make it a float32 by default.
    if isinstance(number, Tensor):
        return number.detach()
    return torch.tensor(number, dtype=torch.float64)


class DirectedCurveMetric(CurveMetric):
    """Collect a curve whose own direction is the direction of the result.

    The best accuracy is better when higher, the best loss when lower, so `higher_is_better` is
    known per object and not per class. torchmetrics forbids to assign it; a property does not
    assign.

    Args:
        higher_is_better: Whether the values improve upwards (accuracy) or downwards (loss).
        **kwargs: Keyword arguments of `torchmetrics.Metric`.
    """

    def __init__(self, *, higher_is_better: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._higher_is_better = higher_is_better

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether a higher result, like a higher value of the curve, is better."""
        return self._higher_is_better
