"""Tuning the baseline and the arms before they are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, isfinite, sqrt
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from lightning_qsgd.compare.planning.job import TUNING, Job, value_at, with_values
from lightning_qsgd.compare.planning.search import Range, Search
from lightning_qsgd.compare.results.pairing import inert_values
from lightning_qsgd.compare.results.results import FailedRun, TunedArm, TunedValue
from lightning_qsgd.compare.running.stored_run import StoredRun
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import FINAL_WEIGHTS, RecordedCurve, RecordedRun

if TYPE_CHECKING:
    from optuna.distributions import FloatDistribution, IntDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

SHARE = 0.75
"""Share of its budget that the baseline gets: at all of it, half of its runs would miss."""


def target_from_baseline(
    runs: Iterable[RecordedRun | None], metric: str, higher_is_better: bool = True
) -> float:
    """Return what the baseline reaches after 3/4 of its steps, the median over runs.

    It is read where the metric was recorded next, but not at the end, unless it was recorded there
    alone. A run that diverged or failed counts as worse than all others.

    Args:
        runs: Runs of the baseline on seeds that are not reported; None for one that failed.
        metric: Tag of the metric.
        higher_is_better: Direction of the metric.

    Raises:
        ValueError: If no run has a curve of the metric, or half of them diverged or failed.

    Example:
        >>> from lightning_qsgd.training.recorded_run import RecordedCurve
        >>> curve = RecordedCurve([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [0.1, 0.5, 0.8, 0.9])
        >>> target_from_baseline([RecordedRun("adamw", 0, {}, {"accuracy": curve})], "accuracy")
        0.8
    """
    curves = [run.curves.get(metric) if run else None for run in runs]
    if not any(curve and curve.values for curve in curves):
        raise ValueError(
            f"Cannot take a target from the baseline: none of its runs recorded `{metric}`. Fix "
            "`goal.target` in advance, or mend the baseline."
        )
    worst = -inf if higher_is_better else inf
    reached = [_after_most(curve) if curve and curve.values else worst for curve in curves]
    target = median(value if isfinite(value) else worst for value in reached)
    if not isfinite(target):
        raise ValueError(
            f"Cannot take a target from the baseline: of its {len(reached)} runs for it, "
            f"{sum(not isfinite(value) for value in reached)} diverged in `{metric}` or failed. "
            "Fix `goal.target` in advance, or narrow the baseline's ranges."
        )
    return target


def _after_most(curve: RecordedCurve) -> float:
    last = len(curve.steps) - 1
    wanted = SHARE * curve.steps[last]
    place = next(place for place, step in enumerate(curve.steps) if step >= wanted)
    return curve.values[max(0, min(place, last - 1))]


STUDY = "study.log"
MakeRuns = Callable[[Sequence[Job], str], Mapping[Job, StoredRun]]
"""Makes runs, or finds them stored; shown under the title."""

FEWEST_TRIALS = 6
"""With fewer, a best value at the edge of a range says nothing about what lies beyond."""


@dataclass
class ArmSearch:
    """The search of one arm.

    Attributes:
        name: Name of the arm.
        config: Configuration of its runs.
        space: Ranges by hyperparameter, with their places; they may widen.
        study: Optuna's study, in what `Range.searched` draws.
        extra: Trials after ranges have been widened.
        failure: What the first failed run said.
        journal: The ended trials of the study on disk; None before the first.
        ends: Hashes of the final weights of each trial with a score, by its number.
    """

    name: str
    config: Mapping[str, Any]
    space: dict[str, Range]
    study: Study
    extra: int = 0
    failure: str = ""
    journal: Study | None = None
    ends: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def start(self) -> None:
        """Let the first trial be the arm as its configuration has it, moved into the ranges."""
        own = {n: value_at(self.config, str(s.path), self.name) for n, s in self.space.items()}
        known = {n: v for n, v in own.items() if isinstance(v, int | float)}
        self._enqueue({name: self.space[name].clipped(value) for name, value in known.items()})

    def best(self, count: int) -> list[FrozenTrial]:
        """Return the trials with the best scores, each setting once.

        Args:
            count: How many at most.
        """
        known = [trial for trial in self.study.trials if trial.value is not None]
        sign = -1 if self.study.direction.name == "MAXIMIZE" else 1
        ranked = sorted(known, key=lambda trial: sign * float(trial.value or 0.0))
        settings: dict[Any, FrozenTrial] = {}
        for trial in ranked:
            settings.setdefault(tuple(trial.params.items()), trial)
        return list(settings.values())[:count]

    @property
    def untuned(self) -> str:
        """Why nothing can be chosen; empty if a trial ended with a finite metric."""
        if self.best(1):
            return ""
        return (
            f"Cannot tune {self.name!r}: each of its {len(self.study.trials)} trials failed or "
            f"diverged. Narrow `tuning.space`, or mend the arm.\n{self.failure}"
        ).rstrip()

    def tuned(self, search: Search, final: tuple[FrozenTrial, float] | None = None) -> TunedArm:
        """Return what was chosen.

        Args:
            search: Trials and seeds.
            final: The trial that was best at fresh seeds, and its score there; None takes the best.

        """
        best = self.best(1)[0]
        chosen, score = final or (best, float(best.value or 0.0))
        drawn = chosen.params
        values = tuple(
            TunedValue(
                *(name, span.low, span.high, span.clipped(span.turned(drawn[name]))), span.scale
            )
            for name, span in self.space.items()
        )
        finals = (search.final_block, search.finalists) if final else ()
        return TunedArm(
            *(self.name, len(self.study.trials), search.seed_block, values, score, self.extra),
            *(finals or ((), 1)),
            inert_values(
                [
                    (t.params, self.ends[t.number])
                    for t in self.study.trials
                    if t.number in self.ends
                ]
            ),
        )

    def widen(self, best: TunedArm, trials: int) -> bool:
        """Widen the ranges whose best value lies at an edge, and plan two trials in the new parts.

        Args:
            best: What was chosen so far.
            trials: Trials that follow if anything was widened.

        Returns:
            Whether anything was widened.
        """
        inside, ends = {value.name: value.best for value in best.values}, dict[str, float]()
        middles = dict[str, float]()
        for value in best.values:
            old = self.space[value.name]
            if not value.edge or (new := old.widened(value.edge)) == old:
                continue
            self.space[value.name] = new
            one, other = (new.turned(getattr(span, value.edge)) for span in (old, new))
            middle = new.turned(sqrt(one * other) if one * other > 0 else other)
            middles[value.name] = new.clipped(middle)
            ends[value.name] = getattr(new, value.edge)
        if ends:
            self.extra += trials
            self._enqueue({**inside, **middles})
            self._enqueue({**inside, **ends})
        return bool(ends)

    def _enqueue(self, values: Mapping[str, float]) -> None:
        self.study.enqueue_trial({name: self.space[name].turned(v) for name, v in values.items()})


@dataclass(frozen=True)
class Tuning:
    """Searches each arm's hyperparameters, one trial of all arms after the other.

    The runs on disk are the truth: an interrupted search proposes the same settings again, finds
    their runs, and goes on where it stopped. That needs proposals that depend on nothing but the
    results so far, so each trial seeds the sampler anew. Arms share those seeds, and with them
    their first, random settings. What one arm is given never depends on another: an arm that is
    added later leaves the others' trials as they are.

    Attributes:
        search: Space, trials and seeds.
        goal: Metric and direction.
        folder: The study of each arm is saved to `<folder>/<arm>/study.log`, a journal of optuna.
    """

    search: Search
    goal: Goal
    folder: Path

    def run(
        self,
        configs: Mapping[str, Mapping[str, Any]],
        make_runs: MakeRuns,
        spaces: Mapping[str, Mapping[str, Range]] | None = None,
    ) -> tuple[dict[str, TunedArm], dict[str, str]]:
        """Tune arms.

        Args:
            configs: Configuration of the run by arm, with whatever seed.
            make_runs: Makes the runs of a round.
            spaces: Ranges by arm, with places; None takes those of the search for all.

        Returns:
            What was chosen, by arm, and why nothing could be, by arm: one whose trials all fail
            stops no other.

        Raises:
            ModuleNotFoundError: If optuna is not installed.
            ValueError: If an arm's configuration lacks a tuned hyperparameter.
        """
        optuna = import_optuna()
        sense = "maximize" if self.goal.is_rising else "minimize"
        searches = []
        for arm, config in configs.items():
            space = dict((spaces or {}).get(arm) or self.search.space_of(arm, config, {}, True))
            study = optuna.create_study(study_name=arm, direction=sense)
            searches.append(ArmSearch(arm, config, space, study))
            searches[-1].start()
        self._trials(searches, self.search.trials, make_runs)
        failed = {one.name: why for one in searches if (why := one.untuned)}
        searches = [one for one in searches if one.name not in failed]
        more, still = ceil(self.search.trials / 3), searches
        for _ in range(self.search.extensions if self.search.trials >= FEWEST_TRIALS else 0):
            still = [one for one in still if one.widen(one.tuned(self.search), more)]
            self._trials(still, more, make_runs)
        finals = self._finals(searches, make_runs)
        return {one.name: one.tuned(self.search, finals.get(one.name)) for one in searches}, failed

    def _finals(
        self, searches: Sequence[ArmSearch], make_runs: MakeRuns
    ) -> dict[str, tuple[FrozenTrial, float]]:
        """Try the best settings of each arm again at fresh seeds, and return the best there.

        Only the fresh seeds count: at the others a setting is among the best partly by luck. An arm
        all of whose best settings fail there is left out.
        """
        if not self.search.final_block:
            return {}
        tried = [
            (one.name, trial, self._jobs(one, trial, self.search.final_block))
            for one in searches
            for trial in one.best(self.search.finalists)
        ]
        title = f"Tuning, the best {self.search.finalists} again"
        ended = make_runs([job for *_, jobs in tried for job in jobs], title)
        scores: dict[str, list[tuple[FrozenTrial, float]]] = {}
        for arm, trial, jobs in tried:
            score = self._score([ended[job] for job in jobs])
            if score is not None:
                scores.setdefault(arm, []).append((trial, score))
        choose = max if self.goal.is_rising else min
        return {arm: choose(found, key=lambda pair: pair[1]) for arm, found in scores.items()}

    def _trials(self, searches: Sequence[ArmSearch], count: int, make_runs: MakeRuns) -> None:
        optuna = import_optuna()
        for _ in range(count if searches else 0):
            number = sum(trial.state.is_finished() for trial in searches[0].study.trials)
            asked = {}
            for one in searches:
                one.study.sampler = optuna.samplers.TPESampler(seed=self._seed(number))
                space: Any = {name: _distribution(span) for name, span in one.space.items()}
                asked[one.name] = one.study.ask(space)
            seeds = self.search.seed_block
            jobs = [job for one in searches for job in self._jobs(one, asked[one.name], seeds)]
            known = self.search.trials
            total = f" of {known}" if number < known else ", in a wider range"
            ended = make_runs(jobs, f"Tuning, trial {number + 1}{total}")
            for one in searches:
                own = [stored for job, stored in ended.items() if job.arm == one.name]
                failed = [stored.run for stored in own if isinstance(stored.run, FailedRun)]
                if failed and not one.failure:
                    one.failure = f"The first failure was:\n{failed[0].traceback}"
                told = self._tell(one.study, asked[one.name], own)
                runs = [stored.finished for stored in own]
                hashes = tuple(run.checks.get(FINAL_WEIGHTS, "") for run in runs if run)
                if told.value is not None and all(hashes):
                    one.ends[told.number] = hashes
                self._save(one, told)

    def _seed(self, number: int) -> int:
        return 1000 * self.search.sampler_seed + number

    def _jobs(self, one: ArmSearch, trial: Trial | FrozenTrial, seeds: Sequence[int]) -> list[Job]:
        drawn = trial.params
        values = {str(s.path): s.clipped(s.turned(drawn[name])) for name, s in one.space.items()}
        changed = with_values(one.config, values, one.name)
        block = f"{TUNING}/trial{trial.number}"
        return [Job(one.name, seed, {**changed, "seed_everything": seed}, block) for seed in seeds]

    def _score(self, ended: Sequence[StoredRun]) -> float | None:
        """Return the mean of the metric; None if a run diverged or failed: none to choose."""
        finished = [stored.finished for stored in ended]
        scores = [run.final.get(self.goal.metric) for run in finished if run is not None]
        known = [score for score in scores if score is not None and isfinite(score)]
        return fmean(known) if len(known) == len(ended) else None

    def _tell(self, study: Study, trial: Trial, ended: Sequence[StoredRun]) -> FrozenTrial:
        score = self._score(ended)
        if score is not None:
            return study.tell(trial, score)
        return study.tell(trial, state=import_optuna().trial.TrialState.FAIL)

    def _save(self, one: ArmSearch, ended: FrozenTrial) -> None:
        """Add a trial to a journal that optuna and its dashboard read; the first begins it anew."""
        if one.journal is None:
            optuna = import_optuna()
            file = self.folder / one.name / STUDY
            file.parent.mkdir(parents=True, exist_ok=True)
            for old in (file, file.with_name(f"{STUDY}.lock")):  # a killed process leaves its lock
                old.unlink(missing_ok=True)
            backend = optuna.storages.journal.JournalFileBackend(str(file))
            one.journal = optuna.create_study(
                storage=optuna.storages.JournalStorage(backend),
                study_name=one.name,
                direction=one.study.direction,
            )
        one.journal.add_trial(ended)


def _distribution(span: Range) -> FloatDistribution | IntDistribution:
    kinds, (low, high) = import_optuna().distributions, span.searched
    distribution: FloatDistribution | IntDistribution = (
        kinds.IntDistribution(int(low), int(high), log=span.scale == "log")
        if span.integer
        else kinds.FloatDistribution(low, high, log=span.scale != "linear")
    )
    return distribution


def import_optuna() -> Any:
    """Import optuna, which only a search needs.

    Raises:
        ModuleNotFoundError: If it is not installed, with the extra that brings it.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Cannot tune: optuna is not installed. Install the extra `compare`: "
            "pip install 'lightning-qsgd[compare]', or leave `tuning` out."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
