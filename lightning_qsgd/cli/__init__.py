"""The command line: `lightning-qsgd fit|validate|test|predict --config FILE`, and `compare`."""

from typing import TYPE_CHECKING

from lightning_qsgd.late_names import late_names

if TYPE_CHECKING:
    from lightning_qsgd.cli.baseline import Baseline
    from lightning_qsgd.cli.from_python import Compared, Experiment, compare
    from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
    from lightning_qsgd.cli.run_folder import RunPlace

__all__ = ["Baseline", "Compared", "Experiment", "PerturbationCLI", "RunPlace", "compare"]

if not TYPE_CHECKING:
    _FILES = ("run_folder", "baseline", "perturbation_cli", "from_python")
    __getattr__, __dir__ = late_names(__name__, __all__, _FILES)
