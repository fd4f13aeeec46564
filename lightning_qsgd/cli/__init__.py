"""The command line: `lightning-qsgd fit|validate|test|predict --config FILE`, and `compare`."""

from lightning_qsgd.cli.baseline import Baseline
from lightning_qsgd.cli.from_python import Compared, Experiment, compare
from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
from lightning_qsgd.cli.run_folder import RunPlace

__all__ = ["Baseline", "Compared", "Experiment", "PerturbationCLI", "RunPlace", "compare"]
