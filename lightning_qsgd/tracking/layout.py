"""The page of charts that sets arms beside their baseline: single runs, and means over seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from lightning_qsgd.tracking import tags

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Chart: TypeAlias = list[str | list[str]]
Layout: TypeAlias = dict[str, dict[str, Chart]]
"""Charts by title, by category, as `SummaryWriter.add_custom_scalars` takes them."""

METRICS = ("train/loss", "val/loss", "val/accuracy")

SIZE_CHARTS = {
    "size relative to the base step": tags.RELATIVE_SIZE,
    "size relative to the model's step (estimate)": tags.MODEL_RELATIVE_SIZE,
    "standard error of that estimate": tags.MODEL_RELATIVE_SIZE_ERROR,
    "cosine with the base step": tags.COSINE,
    "share of the model touched": tags.TOUCHED_SHARE,
    "share of exact zeros": tags.ZERO_SHARE,
    "learned factor of the strength": tags.STRENGTH_FACTOR,
    "learned change of the circuit's weights": tags.WEIGHTS_CHANGE,
}
COST_CHARTS = {
    "seconds per step": tags.SECONDS,
    "share of the step": tags.SHARE_OF_STEP,
    "circuits per step": tags.CIRCUITS,
    "steps skipped so far": tags.SKIPPED,
}


def comparison_layout(metrics: Sequence[str] = METRICS) -> Layout:
    """Arrange the charts of a comparison: means over seeds first, then single runs.

    Each chart shows one tag for all runs, because colour in TensorBoard is the run: two tags of
    one run would share a colour. The gap to the baseline has charts of its own, since on the scale
    of the loss the arms lie on top of each other.

    Args:
        metrics: Tags that all arms log, in the order of the charts; at least one.

    Returns:
        Charts by title, by category; `charts_of` keeps those that show something.

    Raises:
        TypeError: If `metrics` is a single string.
        ValueError: If `metrics` is empty.

    Example:
        >>> comparison_layout(["val/loss"])["every run"]
        {'val/loss': ['Multiline', ['^val/loss$']]}
    """
    _require_tags(metrics)
    return {
        "mean over seeds": {metric: _chart(tags.mean_tag(metric)) for metric in metrics},
        "mean gap to the baseline": {
            f"{metric} minus the baseline": _chart(tags.mean_gap_tag(metric)) for metric in metrics
        },
        "every run": {metric: _chart(metric) for metric in metrics},
        "gap to the baseline": {
            f"{metric} minus its baseline": _chart(tags.gap_tag(metric)) for metric in metrics
        },
        "perturbation size": {title: _chart(tag, NUMBER) for title, tag in SIZE_CHARTS.items()},
        "cost": {title: _chart(tag, NUMBER) for title, tag in COST_CHARTS.items()},
    }


def charts_of(layout: Layout, shown: Iterable[str]) -> Layout:
    """Keep the charts that show something: TensorBoard draws an empty one for each of the others.

    Args:
        layout: Charts by title, by category.
        shown: Tags that there are.

    Example:
        >>> layout = comparison_layout(["loss"])
        >>> list(charts_of(layout, ["loss"])), list(charts_of(layout, ["mean/loss"]))
        (['every run'], ['mean over seeds'])
    """
    there = list(shown)
    kept = {
        category: {
            title: chart
            for title, chart in charts.items()
            if any(re.search(pattern, tag) for pattern in chart[1] for tag in there)
        }
        for category, charts in layout.items()
    }
    return {category: charts for category, charts in kept.items() if charts}


def write_layout(writer: SummaryWriter, metrics: Sequence[str], shown: Iterable[str]) -> None:
    """Write the charts of a comparison, for TensorBoard's page "Custom Scalars".

    TensorBoard joins the layouts of all runs, and takes the last that a run has written. So every
    run writes the charts that it fills, and may do so again.

    Args:
        writer: Writer of any run below TensorBoard's log directory.
        metrics: Tags that all arms log, in the order of the charts; at least one.
        shown: Tags that the run writes.

    Raises:
        TypeError: If `metrics` is a single string.
        ValueError: If `metrics` is empty.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torch.utils.tensorboard import SummaryWriter
        >>> with TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
        ...     write_layout(writer, ["val/loss"], ["val/loss", "val/accuracy"])
    """
    writer.add_custom_scalars(charts_of(comparison_layout(metrics), shown))


def page_of(*metrics: str, port: int = 6006) -> str:
    """Give the address of a page that opens on some charts.

    TensorBoard sorts groups of charts by name, so that losses come last; pinned charts come first.

    Args:
        metrics: Tags of the charts.
        port: Where TensorBoard serves its pages.

    Example:
        >>> page_of("loss", port=1)
        'http://localhost:1/?pinnedCards=%5B%7B%22plugin%22%3A%22scalars%22%2C%22tag%22%3A%22loss%22%7D%5D#timeseries'
    """
    cards = [{"plugin": "scalars", "tag": tag} for tag in dict.fromkeys(metrics)]
    text = json.dumps(cards, separators=(",", ":"))
    return f"http://localhost:{port}/?pinnedCards={quote(text, safe='')}#timeseries"


NUMBER = r"(/\d+)?"
"""Behind what is measured of one of several optimizers."""


def _chart(tag: str, behind: str = "") -> Chart:
    # TensorBoard takes a tag for a regular expression and accepts whatever begins with a match:
    # without the anchor, "train/loss" would also show "train/loss_epoch".
    return ["Multiline", [f"^{re.escape(tag)}{behind}$"]]


def _require_tags(metrics: Sequence[str]) -> None:
    if isinstance(metrics, str):
        raise TypeError(
            f"Expected `metrics` to be a sequence of tags, got the string {metrics!r}: each of its "
            f"letters would be a tag. Pass [{metrics!r}]."
        )
    if not metrics:
        raise ValueError(
            "Expected `metrics` to name at least one tag, got none: there is nothing to compare. "
            "Pass a tag that all arms log, such as 'val/loss'."
        )
