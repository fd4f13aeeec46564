"""Shows a circuit to people: as text, and as a picture."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_qsgd.circuits.parametrized import ParametrizedCircuit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from qiskit.circuit import QuantumCircuit

TEXT_COLUMNS = 160
"""Width of the text in characters: the paper's circuit (4 qubits, 2 layers) needs 135."""

INCHES_PER_UNIT = 0.7
"""Size of the picture: qiskit's own scale, at which a gate is 0.65 units high."""

DOTS_PER_INCH = 120

ANGLE_POINTS = 13
"""Size of the angles' letters, that of the gates' names: qiskit's own, 8, is lost when a picture is
shrunk."""

UNITS_PER_ROW = 8
"""Length of a row of the picture: TensorBoard shrinks pictures to a narrow card, where a long row
could not be read. Three rows hold the paper's circuit."""


def draw_text(built: ParametrizedCircuit, columns: int = TEXT_COLUMNS) -> str:
    """Draw a circuit with characters, for a monospaced font.

    Args:
        built: Any circuit; a long one continues in further blocks.
        columns: Characters per line, at most; a single gate may need more.

    Returns:
        Lines joined by newlines, three per qubit and block, all lines of a block equally long.

    Example:
        >>> from lightning_qsgd.circuits import superposition_circuit
        >>> built = superposition_circuit(num_qubits=1, reps=1, entanglement="none")
        >>> print(draw_text(built).splitlines()[1])
        q: ┤ H ├┤ Ry(w[0] + π*x[0]) ├┤ Rz(w[1]) ├
    """
    drawing = built.circuit.draw("text", fold=columns)
    return str(drawing.single_string())


def draw_figure(built: ParametrizedCircuit) -> Figure:
    """Draw a circuit as a picture that pyplot knows nothing about.

    No window opens and nothing has to be closed, whatever backend the caller has chosen. A global
    phase is left out: no measurement can see it.

    Args:
        built: Any circuit; a long one is folded into several rows.

    Returns:
        A figure as large as the circuit needs, with one pair of axes.

    Raises:
        ModuleNotFoundError: If matplotlib or pylatexenc is not installed.

    Example:
        >>> from lightning_qsgd.circuits import superposition_circuit
        >>> figure = draw_figure(superposition_circuit(num_qubits=2, reps=1))
        >>> len(figure.axes)
        1
    """
    require_plot_extra()
    from matplotlib.figure import Figure

    circuit = _without_global_phase(built.circuit)
    # qiskit fits its fonts to given axes but not the axes to the circuit, so the first drawing
    # only tells how large the second one has to be.
    width, height = _extent(_draw_into(Figure(), circuit))
    figure = Figure(figsize=(width * INCHES_PER_UNIT, height * INCHES_PER_UNIT), dpi=DOTS_PER_INCH)
    _draw_into(figure, circuit)
    return figure


def _draw_into(figure: Figure, circuit: QuantumCircuit) -> Axes:
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    circuit.draw("mpl", ax=axes, fold=UNITS_PER_ROW, style={"subfontsize": ANGLE_POINTS})
    return axes


def _extent(axes: Axes) -> tuple[float, float]:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return right - left, top - bottom


def _without_global_phase(circuit: QuantumCircuit) -> QuantumCircuit:
    # qiskit writes the phase into the current axes of pyplot, even when it is given other axes.
    copy = circuit.copy()
    copy.global_phase = 0
    return copy


def require_plot_extra() -> None:
    """Refuse pictures where a package for them is missing.

    Raises:
        ModuleNotFoundError: If one is, with the extra that brings it.
    """
    missing = [name for name in ("matplotlib", "pylatexenc") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"Cannot draw the circuit as a picture without {' and '.join(missing)}. "
            "Run `pip install 'lightning-qsgd[plot]'`, or draw it as text."
        )


def picture_path(given: str) -> Path:
    """Return the file that a picture is written to; a name without an ending gets ``.png``.

    Args:
        given: Path as the user wrote it; its ending names the format.

    Raises:
        FileNotFoundError: If there is no such folder.
        IsADirectoryError: If the path is a folder.
        PermissionError: If the file cannot be written.
        ValueError: If no picture has that ending.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    path = Path(given)
    if path.is_dir():
        raise IsADirectoryError(
            f"Cannot write a picture to {given!r}: it is a folder. Name a file in it, such as "
            f"{str(path / 'circuit.png')!r}."
        )
    path = path if path.suffix else path.with_name(f"{path.name.rstrip('.')}.png")
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ValueError(
            f"Cannot write a picture to {given!r}: {path.suffix!r} is the ending of no format of "
            f"pictures. Use one of {', '.join(f'.{name}' for name in sorted(known))}."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"Cannot write a picture to {given!r}: there is no folder {str(path.parent)!r}. Make "
            "it, or name another file."
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(
            f"Cannot write a picture to {given!r}: you may not write there. Name another file."
        )
    return path
