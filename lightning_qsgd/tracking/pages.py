"""What TensorBoard shows beside curves: the circuit and the hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from lightning_qsgd.tracking import tags

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
