"""What TensorBoard shows beside live curves: circuits, hyperparameters, and finished runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lightning_qsgd.tracking import tags
from lightning_qsgd.tracking.layout import write_layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


def write_circuit(writer: SummaryWriter, text: str, figure: Figure | None = None) -> None:
    """Write a drawn circuit to a run.

    Args:
        writer: Writer of the run.
        text: Drawing for a monospaced font, as `draw_text` returns it.
        figure: Picture, as `draw_figure` returns it; closed afterwards. None writes no picture.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torch.utils.tensorboard import SummaryWriter
        >>> with TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
        ...     write_circuit(writer, "q: ┤ H ├")
    """
    writer.add_text(tags.CIRCUIT_TEXT, code_block(text), global_step=0)
    if figure is not None:
        writer.add_figure(tags.CIRCUIT_PICTURE, figure, global_step=0, close=True)


def code_block(text: str) -> str:
    r"""Wrap text in a Markdown code block, which keeps its spaces and its monospaced font.

    Args:
        text: Any lines without a Markdown fence of their own.

    Example:
        >>> code_block("q: ┤ H ├")
        '```\nq: ┤ H ├\n```'
    """
    return f"```\n{text}\n```"


Hyperparameter: TypeAlias = bool | int | float | str


def flatten_config(config: Mapping[str, Any]) -> dict[str, Hyperparameter]:
    """Turn a nested config into columns of the HParams table.

    Args:
        config: Nested mappings of anything. `bool`, `int`, `float` and `str` stay as they are,
            None becomes `"none"`, and everything else (lists, paths, empty mappings) its `str`.

    Returns:
        Values by the keys on the way to them, joined with "/".

    Raises:
        ValueError: If two values come to the same name, as in `{"a/b": 1, "a": {"b": 2}}`.

    Example:
        >>> flatten_config({"base": {"lr": 1e-3, "betas": [0.9, 0.999]}, "seed": None})
        {'base/lr': 0.001, 'base/betas': '[0.9, 0.999]', 'seed': 'none'}
    """
    flat: dict[str, Hyperparameter] = {}
    for name, value in _leaves(config):
        if name in flat:
            raise ValueError(
                f"Cannot flatten the config: two of its values are called {name!r}. "
                "Rename the key that contains a slash."
            )
        flat[name] = _legal(value)
    return flat


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}/")
        else:
            yield name, value


def _legal(value: Any) -> Hyperparameter:
    if value is None:
        return "none"
    return value if isinstance(value, bool | int | float | str) else str(value)


def write_hyperparameters(writer: SummaryWriter, row: Mapping[str, Hyperparameter]) -> None:
    """Write a line of the HParams table.

    TensorBoard takes the columns of all lines from the first summary of an experiment that it
    finds, and `SummaryWriter.add_hparams` writes one for each run: an arm would lose the columns
    that the baseline lacks. Without any it looks at all lines, puts first what differs between
    them, and shows the last value of each scalar beside it.

    Args:
        writer: Writer of the run.
        row: Values by column.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from torch.utils.tensorboard import SummaryWriter
        >>> with TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
        ...     write_hyperparameters(writer, {"arm": "sine", "seed": 0})
    """
    from torch.utils.tensorboard.summary import hparams

    _, started, ended = hparams(dict(row), {})
    for summary in (started, ended):
        writer._get_file_writer().add_summary(summary)


Points = Sequence[tuple[float, float]]
"""(Step, value), in the order of the steps."""


def write_run(
    folder: Path,
    curves: Mapping[str, Points],
    metrics: Sequence[str],
    row: Mapping[str, Hyperparameter],
) -> None:
    """Write a finished run, or a mean of runs, into a folder.

    Args:
        folder: Folder of the run; TensorBoard names the run after it.
        curves: Points by tag.
        metrics: What the page "Custom Scalars" compares.
        row: Line of the HParams table.
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        write_layout(writer, metrics, curves)
        for tag, points in curves.items():
            for step, value in points:
                writer.add_scalar(tag, value, round(step))
        write_hyperparameters(writer, row)


def write_columns(
    folder: Path, rows: Iterable[Mapping[str, Hyperparameter]], metrics: Iterable[str]
) -> None:
    """Fix the columns of the HParams table for all runs, and the order of the metrics in it.

    Without it TensorBoard sorts metrics by name. Means over seeds would then come before what
    single runs have, and be blank in each of their lines.

    Args:
        folder: Folder of one run; TensorBoard takes the columns that it finds there for all runs.
        rows: The lines of all runs.
        metrics: Tags in the order of their columns.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    from torch.utils.tensorboard import SummaryWriter

    seen: dict[str, list[Hyperparameter]] = {}
    for row in rows:
        for name, value in row.items():
            seen.setdefault(name, []).append(value)
    experiment = api_pb2.Experiment(
        hparam_infos=[_column(name, values) for name, values in seen.items()],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics],
    )
    content = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    table = Summary.Value(
        tag=metadata.EXPERIMENT_TAG, metadata=metadata.create_summary_metadata(content)
    )
    with SummaryWriter(str(folder)) as writer:
        writer._get_file_writer().add_summary(Summary(value=[table]))


def _column(name: str, values: Sequence[Hyperparameter]) -> Any:
    """Describe a column as TensorBoard does where it finds the columns by itself."""
    from tensorboard.plugins.hparams import api_pb2

    column = api_pb2.HParamInfo(name=name, differs=len(set(map(repr, values))) > 1)
    kinds = {type(value) for value in values}
    if kinds <= {int, float}:
        column.type = api_pb2.DATA_TYPE_FLOAT64
        column.domain_interval.min_value = min(values)
        column.domain_interval.max_value = max(values)
    elif kinds == {bool}:
        column.type = api_pb2.DATA_TYPE_BOOL
        column.domain_discrete.extend(sorted(set(values)))
    else:
        column.type = api_pb2.DATA_TYPE_STRING
        column.domain_discrete.extend(sorted(set(map(str, values))))
    return column
