"""Writes finished runs of a comparison, and their means, as TensorBoard runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_qsgd.tracking import tags
from lightning_qsgd.tracking.layout import Chart, Layout, comparison_layout
from lightning_qsgd.tracking.pages import Hyperparameter

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Points = Sequence[tuple[float, float]]
"""(Step, value), in the order of the steps."""


def mean_tag(tag: str) -> str:
    """Name the mean of a scalar over seeds.

    A name of its own, so that a chart of means does not show the single runs as well.

    Example:
        >>> mean_tag("val/loss")
        'mean/val/loss'
    """
    return f"mean/{tag}"


def means_layout(metrics: Sequence[str]) -> Layout:
    """Arrange the charts of a comparison over seeds: means and gaps first, then single runs.

    Args:
        metrics: Tags that all runs log, at least one.

    Raises:
        ValueError: If `metrics` is empty.

    Example:
        >>> list(means_layout(["val/loss"]))[:2]
        ['mean over seeds', 'mean gap to the baseline']
    """
    single = comparison_layout(metrics)
    means: Layout = {
        "mean over seeds": {metric: _chart(mean_tag(metric)) for metric in metrics},
        "mean gap to the baseline": {
            f"{metric} minus the baseline": _chart(mean_tag(tags.gap_tag(metric)))
            for metric in metrics
        },
    }
    sizes = single["perturbation size"]
    return {
        **means,
        "single runs": single["AdamW vs perturbed"],
        "perturbation size": {
            title: chart
            for title, chart in sizes.items()
            if chart in (_chart(tags.RELATIVE_SIZE), _chart(tags.MODEL_RELATIVE_SIZE))
        },
    }


def charts_of(layout: Layout, shown: Iterable[str]) -> Layout:
    """Keep the charts that show something: TensorBoard draws an empty one for each of the others.

    Args:
        layout: Charts by title, by group.
        shown: Tags that there are.

    Example:
        >>> layout = means_layout(["loss"])
        >>> list(charts_of(layout, ["loss"])), list(charts_of(layout, ["mean/loss"]))
        (['single runs'], ['mean over seeds'])
    """
    tags_of_run = list(shown)
    kept = {
        group: {
            title: chart
            for title, chart in charts.items()
            if any(re.search(pattern, tag) for pattern in chart[1] for tag in tags_of_run)
        }
        for group, charts in layout.items()
    }
    return {group: charts for group, charts in kept.items() if charts}


def write_run(
    folder: Path,
    curves: Mapping[str, Points],
    metrics: Sequence[str],
    hyperparameters: Mapping[str, Hyperparameter] | None = None,
    final: Mapping[str, float] | None = None,
) -> None:
    """Write one run, or one mean, into a folder of its own.

    Args:
        folder: Folder of the run; TensorBoard names the run after it.
        curves: Points by tag.
        metrics: What the page "Custom Scalars" compares.
        hyperparameters: Row of the HParams table; None writes none.
        final: Values by tag that the table shows beside them.
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        writer.add_custom_scalars(charts_of(means_layout(metrics), curves))
        for tag, points in curves.items():
            for step, value in points:
                writer.add_scalar(tag, value, round(step))
        if hyperparameters is not None:
            _write_row(writer, hyperparameters, final or {})


def _write_row(
    writer: SummaryWriter, hyperparameters: Mapping[str, Hyperparameter], final: Mapping[str, float]
) -> None:
    from torch.utils.tensorboard.summary import hparams

    named = {tags.final_tag(tag): value for tag, value in final.items()}
    for summary in hparams(dict(hyperparameters), named):
        writer._get_file_writer().add_summary(summary)
    for tag, value in named.items():
        writer.add_scalar(tag, value, 0)


def _chart(tag: str) -> Chart:
    (chart,) = comparison_layout([tag])["AdamW vs perturbed"].values()
    return chart
