"""The console command ``lightning-qsgd``."""

import os
import sys
import traceback
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Errors that this package raises about its input are printed without a traceback; set
    ``LIGHTNING_QSGD_DEBUG=1`` to see it. The exit status is then 2.

    Args:
        arguments: Command-line arguments; those of the process by default.
    """
    from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
    from lightning_qsgd.cli.quiet import hush

    hush()
    try:
        PerturbationCLI(args=arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        if os.environ.get("LIGHTNING_QSGD_DEBUG") or not _raised_here(error):
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def _raised_here(error: BaseException) -> bool:
    """Whether the error was raised by this package's own code, not by a library or a model."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE)
