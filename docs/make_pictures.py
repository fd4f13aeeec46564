"""Draws the pictures of the documentation: `make pictures`, or one with its name.

Each picture is computed here and now from the package; none is drawn by hand. The photograph of a
report needs a browser, and is left as it is where there is none.
"""

import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from docs.published import published
from lightning_qsgd import (
    AllEntries,
    CompiledBackend,
    PermutedControl,
    Perturbation,
    PerturbedOptimizer,
    RelativeInjection,
    SignalProcessingCircuit,
    SuperpositionCircuit,
)
from lightning_qsgd.circuits import ScoreCircuit
from lightning_qsgd.circuits.drawing import draw_figure
from lightning_qsgd.compare import Method, analyse, verdicts
from lightning_qsgd.compare.report import write_report
from lightning_qsgd.compare.report.panels import draw_gains
from lightning_qsgd.compare.report.pictures import LOOK
from lightning_qsgd.compare.report.suite_page import draw_profiles
from lightning_qsgd.compare.statistics import performance_profile
from lightning_qsgd.compare.verdicts.suite import SuiteAnalysis
from tests.browser import BROWSER, photograph

FOLDER = Path(__file__).parent / "pictures"
RESULTS = Path(__file__).parent / "results"
matplotlib.rcParams |= {"svg.hashsalt": "lightning-qsgd", "font.size": 9, "axes.grid": True}
matplotlib.rcParams |= {"grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False}

ONE_LAYER = SuperpositionCircuit(num_qubits=2, reps=1, entanglement="none")
PAPER = SuperpositionCircuit(num_qubits=4, reps=2)


def circuit_one_layer() -> Figure:
    """Draw the circuit that is Eq. 2."""
    return draw_figure(ONE_LAYER.build())


def circuit_paper() -> Figure:
    """Draw the paper's circuit: 4 qubits, 2 layers."""
    return draw_figure(PAPER.build())


def circuit_score() -> Figure:
    """Draw the circuit of one attention score."""
    return draw_figure(ScoreCircuit(num_qubits=2, reps=2).build())


def modulation() -> Figure:
    """Show u over its inputs: along one parameter, and as a map over two."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    line, plain, entangled = figure.subplots(1, 3)
    theta = torch.linspace(-1, 1, 201, dtype=torch.float64)
    others = torch.full((201, 4), 0.3, dtype=torch.float64)
    others[:, 0] = theta
    paper = CompiledBackend(PAPER, weight_seed=0)
    line.plot(theta.numpy(), torch.sin(torch.pi * theta).numpy(), label="one layer: sin(πθ)")
    for qubit in (0, 1):
        u = paper.readout(others)[:, qubit].numpy()
        line.plot(theta.numpy(), u, label=f"paper's circuit, qubit {qubit}")
    line.set(xlabel="θ of qubit 0", ylabel="u", title="along one parameter", ylim=(-1.9, 1.1))
    line.legend(loc="lower center", fontsize=7)
    first = CompiledBackend(ONE_LAYER)
    _map(plain, figure, lambda pairs: first.readout(pairs)[:, 0], "one layer: u of qubit 0")
    _map(entangled, figure, lambda pairs: _first_two(paper, pairs), "paper's circuit: u of qubit 0")
    return figure


def _first_two(backend: CompiledBackend, pairs: Tensor) -> Tensor:
    inputs = torch.full((len(pairs), 4), 0.3, dtype=torch.float64)
    inputs[:, :2] = pairs
    return backend.readout(inputs)[:, 0]


def _map(axes: matplotlib.axes.Axes, figure: Figure, u: Callable, title: str) -> None:
    side = torch.linspace(-1, 1, 101, dtype=torch.float64)
    pairs = torch.cartesian_prod(side, side)
    values = u(pairs).reshape(101, 101).T.numpy()
    image = axes.imshow(
        values, origin="lower", extent=(-1, 1, -1, 1), cmap="RdBu_r", vmin=-1, vmax=1
    )
    axes.set(xlabel="θ of qubit 0", ylabel="θ of qubit 1", title=title)
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, shrink=0.8)


def alignment() -> Figure:
    """Show u over alignment: one qubit beside its twins, and two features with entanglement."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    line, product, entangled = figure.subplots(1, 3)
    f = torch.linspace(-1, 1, 201, dtype=torch.float64)
    one = CompiledBackend(SuperpositionCircuit(num_qubits=1, reps=1))
    line.plot(f, one.readout(f[:, None] / 2)[:, 0], label="one qubit: sin(πf/2)")
    line.plot(f, f, "--", label="linear twin: u = f")
    line.step(f, (f > 0).double() - 1, ":", label="cautious: a mask")
    line.set(xlabel="alignment f", ylabel="u", title="One feature")
    line.legend(loc="lower right")
    for axes, kind in ((product, "none"), (entangled, "linear")):
        backend = CompiledBackend(SuperpositionCircuit(2, 1, kind), weight_seed=0)
        _map(axes, figure, lambda x, b=backend: b.readout(x / 2).mean(1), f"Entanglement: {kind}")
        axes.set(xlabel="alignment", ylabel="second feature")
    return figure


def spectrum() -> Figure:
    """Show u over a singular value, and how far Muon then moves each singular direction."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    s = torch.linspace(0, 1, 201, dtype=torch.float64)
    one = CompiledBackend(SignalProcessingCircuit()).readout(s[:, None])[:, 0]
    left.plot(s, one, label="one qubit: -sin(πs/2)")
    left.plot(s, -s, "--", label="twin: u = -s")
    left.set(xlabel="s", ylabel="u", title="u over a singular value")
    for seed in range(4):
        phases = np.random.default_rng(seed).uniform(-np.pi, np.pi, 4)
        circuit = SignalProcessingCircuit(degree=5, phases=tuple(phases))
        middle.plot(s, CompiledBackend(circuit).readout(s[:, None])[:, 0], lw=1)
    middle.set(xlabel="s", ylabel="u", title="five rotations, four draws of phases")
    right.plot(s, torch.ones_like(s), "k:", label="Muon: 1")
    right.plot(s, 1 + 0.9 * one, label="with the circuit, strength 0.9")
    right.plot(s, 1 - 0.9 * s, "--", label="with its twin")
    right.plot(s, s, "k-", lw=0.8, label="momentum: s")
    right.set(xlabel="s", title="how far a direction moves", ylim=(0, 1.6))
    for axes in (left, right):
        axes.legend(loc="upper right", fontsize=7)
    return figure


def valley(x: Tensor) -> Tensor:
    """Return a quadratic that is 25 times as steep across as along; shape (..., 2) to (...)."""
    return 0.5 * (x[..., 0] ** 2 + 25 * x[..., 1] ** 2)


def rosenbrock(x: Tensor) -> Tensor:
    """Return Rosenbrock's banana; shape (..., 2) to (...)."""
    return (1 - x[..., 0]) ** 2 + 20 * (x[..., 1] - x[..., 0] ** 2) ** 2


def trajectories() -> Figure:
    """Follow Adam, perturbed Adam and its control on two surfaces."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    surfaces = ((valley, (-1.8, 0.9), 0.1), (rosenbrock, (-1.2, 1.2), 0.1))
    for axes, (surface, start, lr) in zip(figure.subplots(1, 2), surfaces, strict=True):
        _contours(axes, surface)
        for name, injection, style in (
            ("Adam", None, "k-"),
            ("perturbed", RelativeInjection(), "C3-"),
            ("control: permuted", RelativeInjection(PermutedControl()), "C0--"),
        ):
            path = _path(surface, start, lr, injection)
            axes.plot(path[:, 0], path[:, 1], style, lw=1.3, label=name)
        axes.set(xlabel="x", ylabel="y", title=surface.__name__)
        axes.legend(loc="upper right", fontsize=7)
    return figure


def _contours(axes: matplotlib.axes.Axes, surface: Callable[[Tensor], Tensor]) -> None:
    x, y = torch.linspace(-2.2, 2, 121), torch.linspace(-1.2, 2, 121)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    heights = surface(grid).log1p().numpy()
    axes.contour(x.numpy(), y.numpy(), heights, levels=12, cmap="Greys", linewidths=0.6)


def _path(
    surface: Callable[[Tensor], Tensor],
    start: tuple[float, float],
    lr: float,
    injection: RelativeInjection | None,
    steps: int = 120,
) -> np.ndarray:
    x = torch.nn.Parameter(torch.tensor(start))
    optimizer: torch.optim.Optimizer = torch.optim.Adam([x], lr=lr)
    if injection is not None:
        circuit = CompiledBackend(SuperpositionCircuit(num_qubits=2), weight_seed=0)
        perturbation = Perturbation(circuit, AllEntries(), strength=0.8, injection=injection)
        optimizer = PerturbedOptimizer(optimizer, perturbation)
    path = [x.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        surface(x).backward()
        optimizer.step()
        path.append(x.detach().clone())
    return torch.stack(path).numpy()


def forest() -> Figure:
    """Draw the gains of the comparison on digits anew from its raw file."""
    results = published("2026-11-29-digits")
    analysis = analyse(results)
    with matplotlib.rc_context({**LOOK, "font.size": 8.5}):
        figure = draw_gains(analysis, verdicts(analysis), results.comparison.goal.metric)
    assert figure is not None
    return figure


def profile() -> Figure:
    """Draw the profiles of a suite from made-up steps to the target: how to read them."""
    costs = {
        "adamw": [100.0, 200.0, 150.0, 300.0, 120.0],
        "quick_but_fragile": [60.0, 110.0, 80.0, inf, inf],
        "slow_but_safe": [140.0, 260.0, 210.0, 330.0, 170.0],
    }
    analysis = SuiteAnalysis(Method(), {}, (), "adamw", performance_profile(costs))
    with matplotlib.rc_context({**LOOK, "font.size": 9}):
        figure = draw_profiles(analysis)
    figure.set_size_inches(9, 3.4)
    return figure


def photograph_report(file: Path) -> None:
    """Photograph the top of the report of the demo, written anew from its raw file."""
    with TemporaryDirectory() as folder:
        page = write_report(published("2026-11-29-demo"), Path(folder))
        photograph(page.as_uri(), file, width=1300, height=1150)
    top = Image.open(file).crop((0, 0, 1280, 980))  # without the bar at the side
    top.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(file)


BOX = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "#1b1f24"}
QUANTUM = {**BOX, "facecolor": "#e3f1fa", "edgecolor": "#0072b2"}


def demo() -> Figure:
    """Say what the package does: a circuit beside the step, and what `make demo` found."""
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    idea, found = figure.subfigures(1, 2, width_ratios=(0.3, 0.7))
    idea.suptitle("A quantum circuit changes each step", fontweight="bold")
    _diagram(idea.subplots())
    results = published("2026-11-29-demo")
    analysis = analyse(results)
    found.suptitle("Does that help? A comparison answers, arm by arm", fontweight="bold")
    draw_gains(analysis, verdicts(analysis), results.comparison.goal.metric, into=found)
    axes = found.axes[0]
    axes.locator_params(axis="x", nbins=4)
    axes.text(0.01, 0.02, "controls, for scale", transform=axes.transAxes, fontsize=8)
    return figure


def _diagram(axes: matplotlib.axes.Axes) -> None:
    axes.set(xlim=(0, 1.15), ylim=(0, 1))
    axes.axis("off")
    boxes = {
        "gradients of your model": (0.5, 0.93, BOX),
        "any torch\noptimizer": (0.24, 0.6, BOX),
        "quantum\ncircuit": (0.78, 0.6, QUANTUM),
        "new parameters": (0.5, 0.1, BOX),
    }
    for text, (x, y, box) in boxes.items():
        axes.text(x, y, text, ha="center", va="center", fontsize=10, bbox=box)
    for start, end in (
        *(((0.4, 0.86), (0.28, 0.72)), ((0.6, 0.86), (0.74, 0.72))),
        *(((0.26, 0.48), (0.44, 0.2)), ((0.76, 0.48), (0.56, 0.2))),
    ):
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "lw": 1.3})
    axes.text(0.24, 0.33, "step", ha="right", fontsize=10)
    axes.text(0.73, 0.33, "strength x readout", ha="left", fontsize=10, color="#0072b2")
    axes.text(0.5, 0.27, "+", ha="center", va="center", fontsize=16)


PICTURES = (
    demo,
    *(circuit_one_layer, circuit_paper, circuit_score),
    *(modulation, alignment, spectrum, trajectories, forest, profile),
)
PHOTO = "report"


def main(names: list[str]) -> None:
    """Draw the pictures that are named, or all."""
    FOLDER.mkdir(exist_ok=True)
    for picture in PICTURES:
        if not names or picture.__name__ in names:
            picture().savefig(
                FOLDER / f"{picture.__name__}.svg", bbox_inches="tight", metadata={"Date": None}
            )
    if BROWSER is not None and (not names or PHOTO in names):
        photograph_report(FOLDER / f"{PHOTO}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
