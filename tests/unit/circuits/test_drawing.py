"""A circuit can be shown as text and as a picture."""

import sys

import pytest
from qiskit.circuit import QuantumCircuit

from lightning_qsgd.circuits import ParametrizedCircuit, superposition_circuit
from lightning_qsgd.circuits.drawing import TEXT_COLUMNS, draw_figure, draw_text

CIRCUITS = {
    "paper": (4, 2, "linear"),
    "one qubit": (1, 1, "none"),
    "wide": (8, 4, "full"),
}
every_circuit = pytest.mark.parametrize("size", CIRCUITS.values(), ids=CIRCUITS.keys())


def gate_texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@every_circuit
def test_text_shows_every_input_and_every_weight(size):
    built = superposition_circuit(*size)

    text = draw_text(built)

    assert all(parameter.name in text for parameter in built.inputs + built.weights)


@every_circuit
def test_no_line_of_the_text_is_wider_than_the_fold(size):
    lines = draw_text(superposition_circuit(*size)).splitlines()

    assert max(len(line) for line in lines) <= TEXT_COLUMNS


def test_the_circuit_of_the_paper_is_one_aligned_block_of_text():
    lines = draw_text(superposition_circuit()).splitlines()

    assert len(lines) == 2 * 4 + 1
    assert len({len(line) for line in lines}) == 1


def test_text_is_a_plain_string():
    assert type(draw_text(superposition_circuit(2, 1))) is str


@every_circuit
def test_the_picture_shows_every_gate_of_the_circuit(size):
    pytest.importorskip("matplotlib")
    pytest.importorskip("pylatexenc")
    built = superposition_circuit(*size)

    texts = gate_texts(draw_figure(built))

    gates = built.circuit.count_ops()
    assert texts.count("H") == gates["h"]
    assert texts.count("$\\mathrm{R_Y}$") == gates["ry"]
    assert texts.count("$\\mathrm{R_Z}$") == gates["rz"]


def test_the_picture_grows_with_the_circuit():
    pytest.importorskip("matplotlib")
    pytest.importorskip("pylatexenc")

    small = draw_figure(superposition_circuit(2, 1)).get_size_inches()
    large = draw_figure(superposition_circuit(6, 3)).get_size_inches()

    assert large[1] > 2 * small[1]
    assert large[0] >= small[0]


def test_the_picture_has_ink_and_its_gates_are_square():
    backend = pytest.importorskip("matplotlib.backends.backend_agg")
    pytest.importorskip("pylatexenc")
    figure = draw_figure(superposition_circuit(2, 1))

    canvas = backend.FigureCanvasAgg(figure)
    canvas.draw()

    assert len({tuple(pixel) for row in canvas.buffer_rgba().tolist() for pixel in row}) > 10
    box = figure.axes[0].get_window_extent()
    (left, right), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert box.width / (right - left) == pytest.approx(box.height / (top - bottom), rel=0.01)


def test_the_picture_leaves_nothing_behind_in_pyplot():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pytest.importorskip("pylatexenc")
    circuit = QuantumCircuit(1, global_phase=0.5)
    circuit.h(0)
    before = pyplot.get_fignums()

    draw_figure(superposition_circuit(2, 1))
    draw_figure(ParametrizedCircuit(circuit, (), ()))

    assert pyplot.get_fignums() == before
    assert circuit.global_phase == 0.5


@pytest.mark.parametrize("package", ["matplotlib", "pylatexenc"])
def test_a_picture_without_its_extra_says_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ModuleNotFoundError, match=rf"without {package}. .*lightning-qsgd\[plot\]"):
        draw_figure(superposition_circuit(2, 1))


@pytest.mark.parametrize("package", ["matplotlib", "pylatexenc"])
def test_text_needs_no_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)

    assert "H" in draw_text(superposition_circuit(2, 1))


@pytest.mark.parametrize("columns", [40, 80])
def test_text_is_folded_to_the_width_of_the_terminal(columns: int) -> None:
    lines = draw_text(superposition_circuit(num_qubits=2), columns).splitlines()
    assert max(map(len, lines)) <= columns


def test_angles_are_as_large_as_the_names_of_gates() -> None:
    figure = draw_figure(superposition_circuit(num_qubits=2, reps=1))
    sizes = {text.get_text(): text.get_fontsize() for text in figure.axes[0].texts}
    angle = next(size for text, size in sizes.items() if "w[0]" in text)
    assert angle >= sizes["H"]
