"""The command ``lightning-qsgd circuit``: looks at the circuit of a perturbation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt
from rich.table import Table

from lightning_qsgd.argument_checks import text_of
from lightning_qsgd.backends import Backend, CompiledBackend, SamplerBackend
from lightning_qsgd.backends.agreement import TOLERANCES, Answer, Question, answer
from lightning_qsgd.backends.circuit_backend import CircuitBackend
from lightning_qsgd.backends.forecast import StepForecast, forecast_step, short_time
from lightning_qsgd.backends.fourier.several_inputs import SeveralInputs, evaluate_polynomial
from lightning_qsgd.backends.samplers import ExactSampling
from lightning_qsgd.circuits.drawing import (
    TEXT_COLUMNS,
    draw_figure,
    draw_text,
    picture_path,
    require_plot_extra,
)
from lightning_qsgd.cli.commands import plain_console
from lightning_qsgd.cli.suggesting_parser import SuggestingParser
from lightning_qsgd.perturbations import (
    EntryFeatures,
    Feature,
    Features,
    PermutedFeatures,
    Together,
)

FIRST_OF_EACH, ALL_ENTRIES = 27, 32_801
"""Circuits of one step of the paper-sized transformer: one per tensor, and one per 4 parameters."""

WIDE = 1.25
"""A slowest round beyond this multiple of the best one is shown: the machine was busy."""


def circuit_command(arguments: list[str]) -> None:
    """Run ``draw``, ``check`` or ``bench``.

    Args:
        arguments: What follows ``circuit`` on the command line.

    Raises:
        SystemExit: With status 1 if backends disagree, 2 if an argument is wrong.
    """
    parser = _parser()
    parsed = parser.parse_args(arguments)
    options = parsed[parsed.command]
    if options.arm is not None:
        if options.backend is not None:
            parser.error("Got --arm and --backend: both say what evaluates the circuit. Give one.")
        options.backend, options.features = _parts_of(options.arm, parser)
        parsed = parser.parse_object(parsed)
    try:
        ready = parser.instantiate_classes(parsed)[parsed.command]
        backend = CompiledBackend() if ready.backend is None else ready.backend
        _COMMANDS[parsed.command](backend, ready)
    except (TypeError, ValueError, OSError, ModuleNotFoundError) as error:
        parser.error(str(error), error)
    except Exception as error:  # of qiskit, of a device, or of a class of the user's
        reason = str(error).strip("\"' ").rstrip(".")
        parser.error(
            f"Cannot {parsed.command} this circuit: {type(error).__name__}: {reason}. See whether "
            "its angles are defined for inputs and weights between -4 and 4, and whether its "
            "backend knows all of its gates.",
            error,
        )


def draw(backend: Backend, options: Namespace) -> None:
    """Draw the circuit: here as text, and with --output as a picture."""
    built = backend.describe()
    if built is None:
        raise ValueError(
            f"{type(backend).__name__} describes no circuit: there is nothing to draw. Give a "
            "backend that evaluates a circuit."
        )
    picture = None
    if options.output is not None:
        require_plot_extra()
        picture = picture_path(options.output)
    console = plain_console()
    columns = console.width if console.is_terminal else TEXT_COLUMNS
    console.print(draw_text(built, columns), soft_wrap=True)
    gates = ", ".join(f"{count} {name}" for name, count in built.circuit.count_ops().items())
    console.print(
        f"{built.num_qubits} qubits, {len(built.inputs)} inputs, {len(built.weights)} weights; "
        f"depth {built.circuit.depth()}; {gates}"
    )
    if built.synthesized:
        console.print(f"Simulated as product formulas: {'; '.join(built.synthesized)}.")
    seen = _seen_by(backend, options.features)
    if seen is not None:
        pairs = zip(built.inputs, _names_of(seen), strict=True)
        shown = ", ".join(f"{parameter.name} = {name} / 2" for parameter, name in pairs)
        console.print(f"One circuit per entry: {shown}.")
    if picture is not None:
        draw_figure(built).savefig(picture, bbox_inches="tight")
        console.print(f"Picture: {picture}", soft_wrap=True)


def check(backend: Backend, options: Namespace) -> None:
    """Ask all backends of the circuit for the same random inputs, and compare their answers."""
    _refuse_paid(backend)
    own = _reference_of(backend)
    question = Question.random(own, options.rows, options.seed)
    if not len(backend.initial_weights()):  # a closed form stands for the circuit at weights 0
        question = replace(question, weights=torch.zeros_like(question.weights))
    reference = answer(own, question)
    table = Table(title=f"Largest difference to SamplerQNN, exact, on {options.rows} random inputs")
    for column in ("backend", "readout", "gradient", "tolerance", ""):
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    agree, apart = True, []
    for name, asked, dtype in _asked(backend):
        given = answer(asked, question, dtype)
        row, agrees = _compared(name, given, reference, dtype if _is_exact(asked) else None)
        table.add_row(*row)
        agree = agree and agrees
        apart += [] if _is_exact(asked) else [name]
    if _seen_by(backend, options.features) is not None and not backend.separable:
        row, agrees = _polynomial_row(_compiled(backend), question, reference)
        table.add_row(*row)
        agree = agree and agrees
    console = plain_console()
    console.print(table)
    console.print(_conclusion(agree, apart))
    if not agree:
        raise SystemExit(1)


def bench(backend: Backend, options: Namespace) -> None:
    """Forecast what the circuits of one training step will cost with each backend."""
    _refuse_paid(backend)
    if not options.circuits:
        raise ValueError(
            "Expected `circuits` to hold a number, got none: there is nothing to forecast. Give "
            "the circuits of a step, e.g. '[27]'."
        )
    table = Table(title="What the circuits of one step take")
    table.add_column("backend")
    for circuits in options.circuits:
        table.add_column(f"{circuits:,} circuits", justify="right")
    timed, reasons = _timed(backend)
    for name, each in timed:
        table.add_row(name, *(_cell(forecast_step(each, count)) for count in options.circuits))
    console = plain_console()
    console.print(table)
    seen = _seen_by(backend, options.features)
    points = 0 if seen is None else seen.circuits(backend, 0)
    if points:
        console.print(
            f"With these features the circuit is a polynomial: {points} circuits once per change "
            "of its weights, and none per entry."
        )
    for reason in reasons:
        console.print(f"Left out: {reason}")
    console.print(
        "The best of several rounds; ~ extrapolated in proportion from a smaller batch. "
        "float32, on the CPU."
    )


def _parser() -> SuggestingParser:
    parser = SuggestingParser(prog="lightning-qsgd circuit", description=__doc__)
    commands = parser.add_subcommands(required=True, dest="command")
    for name, function in _COMMANDS.items():
        child = SuggestingParser(description=function.__doc__ or "")
        child.add_argument("--backend", type=Backend | None, default=None, help=_BACKEND)
        child.add_argument("--arm", type=str | None, default=None, help=_ARM)
        child.add_argument("--features", type=_FEATURES, default=None, help=_SEEN)
        for option, settings in _OPTIONS[name].items():
            child.add_argument(option, **settings)
        commands.add_subcommand(name, child, help=function.__doc__)
    return parser


def _parts_of(file: str, parser: SuggestingParser) -> tuple[Any, Any]:
    """Return the parts of a config that describe the backend and what it sees."""
    try:
        config = yaml.safe_load(text_of(Path(file)))
    except ValueError as error:
        parser.error(str(error))
    except (OSError, yaml.YAMLError) as error:
        parser.error(f"Cannot read {file}: {error}. Give a config such as those in configs/arms.")
    perturbation = config.get("perturbation") if isinstance(config, dict) else None
    if not isinstance(perturbation, dict):
        parser.error(
            f"{file} has no `perturbation`: its circuit is unknown. Give an arm that perturbs, or "
            "use --backend."
        )
    backend = perturbation.get("backend", "lightning_qsgd.SineBackend")  # as of a Perturbation
    return backend, perturbation.get("features")


def _seen_by(backend: Backend, features: Any) -> EntryFeatures | None:
    """Return the features of entries that a circuit sees; None where it sees the parameters."""
    seen = features if isinstance(features, Features | None) else Together(features)
    if not isinstance(seen, EntryFeatures):
        return None
    seen.check(backend)
    return seen


def _names_of(seen: EntryFeatures) -> list[str]:
    inner = seen.of if isinstance(seen, PermutedFeatures) else seen
    each = inner.features if isinstance(inner, Together) else [inner]
    return [f"{type(feature).__name__}" for feature in each]


def _polynomial_row(
    backend: CompiledBackend, question: Question, reference: Answer
) -> tuple[tuple[str, ...], bool]:
    """Compare the polynomial on which features are evaluated with one circuit per row."""
    form = SeveralInputs.of(backend.describe())
    weights = question.weights.detach()
    coefficients = form.coefficients(backend.readout(form.grid, weights=weights).mean(-1))
    frequencies = form.frequencies
    values = evaluate_polynomial(coefficients, question.inputs.detach().unbind(-1), frequencies)
    given = Answer(values, {})
    name = f"polynomial of {form.num_points} coefficients"
    return _compared(name, given, Answer(reference.readout.mean(-1), {}), torch.float64)


def _circuit_backend(backend: Backend) -> CircuitBackend:
    """Return a compiled backend of the circuit; of the sine, of the circuit that it stands for."""
    if isinstance(backend, CircuitBackend):
        return backend
    built = backend.describe()
    if built is None:
        raise ValueError(
            f"{type(backend).__name__} describes no circuit: there is nothing to compare it with. "
            "Give a backend that evaluates a circuit."
        )
    return SamplerBackend(built)


def _reference_of(backend: Backend) -> SamplerBackend:
    own = _circuit_backend(backend)
    return SamplerBackend(own.circuit, own.weight_seed)


def _refuse_paid(backend: Backend) -> None:
    """Refuse to try out what costs money.

    Raises:
        ValueError: If the backend's circuits do.
    """
    if isinstance(backend, SamplerBackend) and backend.recipe.paid:
        raise ValueError(
            f"Cannot try out {type(backend.recipe).__name__}: its circuits cost money. Ask for the "
            "same circuit with another sampling; a training shows its forecast before it starts."
        )


def _compiled(backend: Backend) -> CompiledBackend:
    """Return the compiled backend that was given, or one of the same circuit."""
    if isinstance(backend, CompiledBackend):
        return backend
    own = _circuit_backend(backend)
    return CompiledBackend(own.circuit, own.weight_seed)


def _conclusion(agree: bool, apart: list[str]) -> str:
    if not agree:
        return "The backends disagree: trust none of them."
    if apart:
        return (
            f"The exact backends agree; {', '.join(apart)} gives shots or noise and was not judged."
        )
    return "The backends agree."


def _asked(backend: Backend) -> list[tuple[str, Backend, torch.dtype]]:
    compiled = _compiled(backend)
    asked: list[tuple[str, Backend, torch.dtype]] = [
        ("CompiledBackend, float64", compiled, torch.float64),
        ("CompiledBackend, float32", compiled, torch.float32),
    ]
    if not isinstance(backend, CompiledBackend):
        asked.append((_name(backend), backend, torch.float64))
    return asked


def _timed(backend: Backend) -> tuple[list[tuple[str, Backend]], list[str]]:
    """Return what can be timed, and why the rest cannot."""
    timed: list[tuple[str, Backend]] = []
    reasons = []
    for build in (_compiled, _reference_of):
        try:
            other = build(backend)
        except ValueError as reason:
            reasons.append(str(reason))
        else:
            timed.append((_name(other), other))
    if _name(backend) not in [name for name, _ in timed]:
        timed.append((_name(backend), backend))
    return timed, reasons


def _name(backend: Backend) -> str:
    if isinstance(backend, SamplerBackend):
        recipe = type(backend.recipe).__name__
        return "SamplerBackend, " + ("exact" if recipe == "ExactSampling" else recipe)
    compiled_twice = isinstance(backend, CompiledBackend) and backend.torch_compile
    return type(backend).__name__ + (", torch.compile" if compiled_twice else "")


def _is_exact(backend: Backend) -> bool:
    return not isinstance(backend, SamplerBackend) or isinstance(backend.recipe, ExactSampling)


def _compared(
    name: str, given: Answer, reference: Answer, dtype: torch.dtype | None
) -> tuple[tuple[str, ...], bool]:
    readout, gradient = given.difference(reference)
    shown = (name, f"{readout:.1e}", "-" if gradient is None else f"{gradient:.1e}")
    if dtype is None:
        return (*shown, "-", "not exact"), True
    agrees = max(readout, gradient or 0.0) <= TOLERANCES[dtype]
    return (*shown, f"{TOLERANCES[dtype]:.0e}", "agrees" if agrees else "DISAGREES"), agrees


def _cell(forecast: StepForecast) -> str:
    mark = "" if forecast.measured == forecast.circuits else "~"
    spread = forecast.slowest / forecast.seconds
    wide = f" (up to {short_time(forecast.slowest)})" if spread > WIDE else ""
    return f"{mark}{short_time(forecast.seconds)}{wide}"


_NUMBERS = ("readout", "gradient", "tolerance")
_BACKEND = "What evaluates the circuit; the compiled paper's circuit by default."
_ARM = "A config whose perturbation.backend is taken, such as configs/arms/quantum_shots.yaml."
_FEATURES = Features | list[Feature] | None
_SEEN = "What the circuit sees of each entry; the parameters by default."
_COMMANDS: dict[str, Callable[[Backend, Namespace], None]] = {
    "draw": draw,
    "check": check,
    "bench": bench,
}
_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "draw": {
        "--output": {"type": str | None, "default": None, "help": "Picture file (.png, .svg)."}
    },
    "check": {
        "--rows": {"type": PositiveInt, "default": 16, "help": "Number of random inputs."},
        "--seed": {
            "type": NonNegativeInt,
            "default": 0,
            "help": "Names the random inputs and weights.",
        },
    },
    "bench": {
        "--circuits": {
            "type": list[PositiveInt],
            "default": [FIRST_OF_EACH, ALL_ENTRIES],
            "help": "Circuits per step; by default those of the paper-sized transformer.",
        }
    },
}
