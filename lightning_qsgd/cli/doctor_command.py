"""The command ``lightning-qsgd doctor``: what is installed here, and what a step would cost."""

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from rich.table import Table

from lightning_qsgd.cli.commands import plain_console
from lightning_qsgd.cli.suggesting_parser import EXTRAS, SuggestingParser

PACKAGES = (
    *("lightning-qsgd", "torch", "lightning", "torchmetrics", "numpy", "jsonargparse"),
    *("qiskit", "qiskit-machine-learning", "qiskit-aer", "tensorboard"),
)
CIRCUITS = 27
"""Circuits of one step of the paper-sized transformer: one per tensor."""


def doctor_command(arguments: list[str]) -> None:
    """Show versions, devices, extras, and what a perturbed step would cost on this machine.

    Args:
        arguments: What follows ``doctor`` on the command line.
    """
    SuggestingParser(prog="lightning-qsgd doctor", description=__doc__).parse_args(arguments)
    console = plain_console()
    console.print(_versions())
    for line in (*_devices(), *_extras(), *_costs()):
        console.print(line, soft_wrap=True)


def _versions() -> Table:
    table = Table("package", "version", box=None)
    table.add_row("python", platform.python_version())
    for name in PACKAGES:
        try:
            table.add_row(name, version(name))
        except PackageNotFoundError:
            table.add_row(name, "not installed")
    return table


def _devices() -> list[str]:
    import torch

    from lightning_qsgd.compare.results.results import usable_cores

    found = [f"CPU, {usable_cores()} cores, {torch.get_num_threads()} threads of torch"]
    found += [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("MPS")
    return [f"Devices: {'; '.join(found)}"]


def _extras() -> list[str]:
    lines = []
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        hint = f"lacks {', '.join(missing)}: pip install 'lightning-qsgd[{extra}]'"
        lines.append(f"Extra `{extra}`: {hint if missing else 'installed'}")
    return lines


def _costs() -> list[str]:
    from lightning_qsgd.backends import CompiledBackend, SineBackend
    from lightning_qsgd.backends.forecast import forecast_step, short_time

    lines = []
    for backend in (SineBackend(), CompiledBackend()):
        time = short_time(forecast_step(backend, CIRCUITS).seconds)
        name = type(backend).__name__
        lines.append(f"The {CIRCUITS} circuits of a step in {name}: {time} here")
    return lines
