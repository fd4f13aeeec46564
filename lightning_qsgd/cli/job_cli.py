"""The command line inside a job of a comparison."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers.logger import Logger

from lightning_qsgd.cli.pairing_callback import PairingCallback
from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
from lightning_qsgd.training.wrapping import callbacks_of

LOG_EVERY = 10
"""Perturbations are measured at one step in this many: measuring takes time that is compared."""

RAISING = {"exit_on_error": False}
SETTINGS: dict[str, Any] = {
    "save_config_callback": None,
    "parser_kwargs": {**RAISING, "fit": RAISING},
}
"""A run of a comparison writes no config, and raises where the command would exit."""


class JobCLI(PerturbationCLI):
    """Trains as `lightning-qsgd fit` does, and keeps everything in memory.

    Args:
        config: Configuration of the subcommand `fit`, plain values.
        scratch: Folder for whatever callbacks of the config may write.

    Attributes:
        pairing: What the runs of a seed must have in common.
        logger: Every scalar that was logged.
        validated: Metrics of the final weights.
        logged: Tags of what training and its validations logged.
    """

    def __init__(self, config: dict[str, Any], scratch: str) -> None:
        self.pairing = PairingCallback()
        self.logger = MemoryLogger()
        self.validated: dict[str, float] = {}
        self.logged: list[str] = []
        self._scratch = scratch
        super().__init__(args={"subcommand": "fit", "fit": config}, **SETTINGS)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Know `fit` alone: building the parsers of the others takes longer than a short run."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the values, whatever the process' own arguments are."""
        self.config = parser.parse_object(args)

    def before_instantiate_classes(self) -> None:
        """Switch off what writes or draws; it changes no number."""
        trainer = self.config["fit"]["trainer"]
        quiet = {"logger": False, "default_root_dir": self._scratch, "log_every_n_steps": LOG_EVERY}
        quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        for name, value in quiet.items():
            trainer[name] = value
        if "Checkpoint" not in repr(trainer["callbacks"]):
            trainer["enable_checkpointing"] = False
        super().before_instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer the logger and the callback that keep what is compared."""
        trainer = super().instantiate_trainer(**kwargs, logger=self.logger)
        callbacks_of(trainer).insert(0, self.pairing)
        return trainer

    def after_fit(self) -> None:
        """Measure the final weights: the last validation may lie before the end of the budget."""
        self.logged = sorted(map(str, self.trainer.callback_metrics))
        measured = self.trainer.validate(self.model, self.datamodule, verbose=False)
        for metrics in measured:
            self.validated |= {tag: float(value) for tag, value in metrics.items()}


class MemoryLogger(Logger):
    """Collects (step, value) by tag; a run of a comparison writes no event files of its own.

    Attributes:
        points: Points by tag, in the order in which they were logged.

    Example:
        >>> logger = MemoryLogger()
        >>> logger.log_metrics({"loss": 0.5}, step=3)
        >>> logger.points["loss"]
        [(3, 0.5)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, list[tuple[int, float]]] = defaultdict(list)

    @property
    def name(self) -> str:
        """Name for Lightning's messages."""
        return "memory"

    @property
    def version(self) -> int:
        """There is only one."""
        return 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep scalars."""
        for tag, value in metrics.items():
            self.points[tag].append((-1 if step is None else step, float(value)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Ignore them: the stored configuration has them."""
