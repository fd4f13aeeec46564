"""The circuit on TensorBoard's pages "Text" and "Images"."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
