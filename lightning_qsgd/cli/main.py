"""The entry point of the command."""

import logging
import os
import sys
import traceback
import warnings
from importlib import import_module
from pathlib import Path


def hush() -> None:
    """Drop Lightning's advertisements and three warnings that every run of this command gives.

    `LeafSpec` is Lightning's own use of torch; that `--optimizer` overrides the module's default
    optimizer is what the option is for; arguments are handed on with names of configs resolved.
    """
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", message=r".*configure_optimizers` will be overridden by")
    warnings.filterwarnings("ignore", message=r".*LightningCLI's args parameter is intended")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()


PACKAGE = Path(__file__).parent.parent

COMMANDS = {
    "circuit": "lightning_qsgd.cli.circuit_command.circuit_command",
    "compare": "lightning_qsgd.cli.compare_command.compare_command",
    "configs": "lightning_qsgd.cli.configs_command.configs_command",
    "report": "lightning_qsgd.cli.report_command.report_command",
}
"""Commands beside those of LightningCLI: what runs the arguments after the name."""

EXPECTED = (
    *(TypeError, ValueError, RuntimeError),
    *(ModuleNotFoundError, FileNotFoundError, TimeoutError),
)
"""What this package raises about its input."""

EPILOG = (
    "Further commands, each with a --help of its own: circuit (looks at the circuit of a "
    "perturbation), compare (arms x seeds of an experiment, with a verdict), report (rebuilds the "
    "report of a comparison), configs (lists the shipped configs and copies them)."
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Errors that this package raises about its input are printed without a traceback; set
    ``LIGHTNING_QSGD_DEBUG=1`` to see it. The exit status is then 2.

    Args:
        arguments: Command-line arguments; those of the process by default.
    """
    from lightning_qsgd.cli.configs_command import with_shipped_configs
    from lightning_qsgd.cli.perturbation_cli import PerturbationCLI

    hush()
    try:
        given = with_shipped_configs(sys.argv[1:] if arguments is None else arguments)
        if given and given[0] in COMMANDS:
            module, function = COMMANDS[given[0]].rsplit(".", 1)
            getattr(import_module(module), function)(given[1:])
        else:
            PerturbationCLI(args=given, parser_kwargs={"epilog": EPILOG})
    except EXPECTED as error:
        if os.environ.get("LIGHTNING_QSGD_DEBUG") or not _raised_here(error):
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def _raised_here(error: BaseException) -> bool:
    """Whether the error was raised by this package's own code, not by a library or a model."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE)
