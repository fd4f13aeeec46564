"""Tuning the baseline and the arms before they are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from lightning_qsgd.compare.planning.job import TUNING, Job, with_values
from lightning_qsgd.compare.planning.search import Range, Search
from lightning_qsgd.compare.results.results import FailedRun, TunedArm, TunedValue
from lightning_qsgd.compare.running.stored_run import StoredRun
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import RecordedRun

if TYPE_CHECKING:
    from optuna.distributions import FloatDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import Trial

SHARE = 0.75
"""Share of its budget that the baseline gets: at all of it, half of its runs would miss."""


def target_from_baseline(runs: Iterable[RecordedRun], metric: str) -> float:
    """Return what the baseline reaches after 3/4 of its budget, the median over runs.

    Args:
        runs: Runs of the baseline on seeds that are not reported.
        metric: Tag of the metric.

    Raises:
        ValueError: If no run has a curve of the metric.

    Example:
        >>> from lightning_qsgd.training.recorded_run import RecordedCurve
        >>> curve = RecordedCurve([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [0.1, 0.5, 0.8, 0.9])
        >>> target_from_baseline([RecordedRun("adamw", 0, {}, {"accuracy": curve})], "accuracy")
        0.8
    """
    reached = []
    for run in runs:
        values = run.curves[metric].values if metric in run.curves else []
        if values:
            reached.append(values[ceil(SHARE * len(values)) - 1])
    if not reached:
        raise ValueError(
            f"Cannot take a target from the baseline: none of its runs recorded `{metric}`. Fix "
            "`goal.target` in advance, or mend the baseline."
        )
    return median(reached)


STUDY = "study.log"
MakeRuns = Callable[[Sequence[Job], str], Mapping[Job, StoredRun]]
"""Makes runs, or finds them stored; shown under the title."""


@dataclass(frozen=True)
class Tuning:
    """Searches each arm's hyperparameters, one trial of all arms after the other.

    The runs on disk are the truth: an interrupted search proposes the same settings again, finds
    their runs, and goes on where it stopped. That needs proposals that depend on nothing but the
    results so far, so each trial seeds the sampler anew. Arms share those seeds, and with them
    their first, random settings.

    Attributes:
        search: Space, trials and seeds.
        goal: Metric and direction.
        folder: The study of each arm is saved to `<folder>/<arm>/study.log`, a journal of optuna.
    """

    search: Search
    goal: Goal
    folder: Path

    def run(
        self, configs: Mapping[str, Mapping[str, Any]], make_runs: MakeRuns
    ) -> dict[str, TunedArm]:
        """Tune arms.

        Args:
            configs: Configuration of the run by arm, with whatever seed.
            make_runs: Makes the runs of a round.

        Returns:
            What was chosen, by arm.

        Raises:
            ModuleNotFoundError: If optuna is not installed.
            RuntimeError: If all trials of an arm failed or diverged.
            ValueError: If an arm's configuration lacks a tuned hyperparameter.
        """
        optuna = _import_optuna()
        sense = "maximize" if self.goal.higher_is_better else "minimize"
        memory = optuna.storages.InMemoryStorage()
        studies = {
            arm: optuna.create_study(storage=memory, study_name=arm, direction=sense)
            for arm in configs
        }
        space = {name: _distribution(span) for name, span in self.search.space.items()}
        last: dict[str, str] = {}
        for number in range(self.search.trials):
            for study in studies.values():
                study.sampler = optuna.samplers.TPESampler(seed=self._seed(number))
            trials = {arm: study.ask(space) for arm, study in studies.items()}
            jobs = [
                job for arm, trial in trials.items() for job in self._jobs(arm, configs[arm], trial)
            ]
            title = f"Tuning, trial {number + 1} of {self.search.trials}"
            ended = make_runs(jobs, title)
            for arm, trial in trials.items():
                own = [stored for job, stored in ended.items() if job.arm == arm]
                last |= _tracebacks(arm, own)
                self._tell(studies[arm], trial, own)
                self._save(memory, arm)
        return {arm: self._best(arm, study, last.get(arm, "")) for arm, study in studies.items()}

    def values(self, tuned: TunedArm) -> dict[str, float]:
        """Return what was chosen, by place in the configuration."""
        return {self.search.paths[value.name]: value.best for value in tuned.values}

    def _seed(self, number: int) -> int:
        return 1000 * self.search.sampler_seed + number

    def _jobs(self, arm: str, config: Mapping[str, Any], trial: Trial) -> list[Job]:
        values = {self.search.paths[name]: value for name, value in trial.params.items()}
        changed = with_values(config, values, arm)
        block = f"{TUNING}/trial{trial.number}"
        return [
            Job(arm, seed, {**changed, "seed_everything": seed}, block)
            for seed in self.search.seed_block
        ]

    def _tell(self, study: Study, trial: Trial, ended: Sequence[StoredRun]) -> None:
        finished = [stored.finished for stored in ended]
        scores = [run.final.get(self.goal.metric) for run in finished if run is not None]
        known = [score for score in scores if score is not None and isfinite(score)]
        if len(known) == len(ended):
            study.tell(trial, fmean(known))
        else:  # diverged or failed at a seed: not a setting to choose
            optuna = _import_optuna()
            study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _best(self, arm: str, study: Study, traceback: str) -> TunedArm:
        if all(trial.value is None for trial in study.trials):
            raise RuntimeError(
                f"Cannot tune {arm!r}: each of its {len(study.trials)} trials failed or diverged. "
                f"Narrow `tuning.space`, or mend the arm. {traceback}".rstrip()
            )
        values = tuple(
            TunedValue(name, span.low, span.high, study.best_params[name], span.scale)
            for name, span in self.search.space.items()
        )
        seeds = self.search.seed_block
        return TunedArm(arm, self.search.trials, seeds, values, float(study.best_value))

    def _save(self, memory: BaseStorage, arm: str) -> None:
        """Write the study as a journal that optuna and its dashboard read."""
        optuna = _import_optuna()
        file = self.folder / arm / STUDY
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(temporary))
        optuna.copy_study(
            from_study_name=arm,
            from_storage=memory,
            to_storage=optuna.storages.JournalStorage(backend),
        )
        temporary.replace(file)


def _distribution(span: Range) -> FloatDistribution:
    optuna = _import_optuna()
    distribution: FloatDistribution = optuna.distributions.FloatDistribution(
        span.low, span.high, log=span.scale == "log"
    )
    return distribution


def _tracebacks(arm: str, ended: Sequence[StoredRun]) -> dict[str, str]:
    failed = [stored.run for stored in ended if isinstance(stored.run, FailedRun)]
    return {arm: f"The last failure was:\n{failed[-1].traceback}"} if failed else {}


def _import_optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Cannot tune: optuna is not installed. Install the extra `compare`: "
            "pip install 'lightning-qsgd[compare]', or leave `tuning` out."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
