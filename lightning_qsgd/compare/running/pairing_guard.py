"""Checks, run by run, that the arms of a seed are a pair, and no copy of one at another seed."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.compare.results.pairing import agree, drawn_apart, marks_of
from lightning_qsgd.compare.running.stored_run import StoredRun
from lightning_qsgd.training.recorded_run import (
    DATA_ORDER,
    INITIAL_WEIGHTS,
    PAIRED_CHECKS,
    RANDOM_STATE,
    VALIDATION_BATCHES,
    VALIDATION_DATA,
    RecordedRun,
    unlike,
)

WORDS = {
    INITIAL_WEIGHTS: "initial weights",
    DATA_ORDER: "first batches",
    RANDOM_STATE: "random generators at the start of training",
    VALIDATION_BATCHES: "number of validation batches",
    VALIDATION_DATA: "validation batches",
}


@dataclass
class PairingGuard:
    """Compares each run with the baseline's of its seed, as soon as both have ended.

    Attributes:
        baseline: Name of the baseline.
        metric: Name of the goal's metric.
        violations: What was found.
    """

    baseline: str
    metric: str = ""
    violations: list[str] = field(default_factory=list)
    _baselines: dict[int, RecordedRun] = field(default_factory=dict)
    _waiting: dict[int, list[RecordedRun]] = field(default_factory=dict)
    _marks: dict[tuple[str, Hashable], int] = field(default_factory=dict)
    _pairs: dict[str, dict[int, tuple[RecordedRun, RecordedRun]]] = field(default_factory=dict)

    def look(self, job: Job, stored: StoredRun) -> list[str]:
        """Take note of a run, and compare whatever it makes comparable.

        Returns:
            What is wrong, a sentence per run; none if nothing is, or the run failed.
        """
        run = stored.finished
        if run is None:
            return []
        waiting = self._waiting.setdefault(job.seed, [])
        if run.arm == self.baseline:
            self._baselines[job.seed] = run
        else:
            waiting.append(run)
        baseline = self._baselines.get(job.seed)
        if baseline is None:
            return []
        found = [words for other in waiting if (words := self._words(other, baseline))]
        waiting.clear()
        self.violations += found
        return found

    def _words(self, run: RecordedRun, baseline: RecordedRun) -> str:
        """Say what is wrong with a pair; empty if nothing is."""
        pairs = self._pairs.setdefault(run.arm, {})
        pairs[run.seed] = run, baseline
        drawn = drawn_apart(pairs).get(run.seed, [])  # the first seed cannot tell
        buffers = _differ(run, baseline, f"buffers{_shown(drawn)}") if drawn else ""
        return _violation(run, baseline) or buffers or self._copy(run, baseline)

    def _copy(self, run: RecordedRun, baseline: RecordedRun) -> str:
        """Say which seed a pair is a copy of; empty if of none that was seen."""
        marks = marks_of(run, baseline, self.metric)
        first = run.seed if marks is None else self._marks.setdefault((run.arm, marks), run.seed)
        if first == run.seed:
            return ""
        return (
            f"Seed {run.seed}: {run.arm} and {baseline.arm} repeat seed {first} to the last bit, "
            f"{COPIED}."
        )


COPIED = "from the first weights and batches to the final weights and metric"


def refuse_unpaired(violation: str) -> None:
    """Stop a comparison whose runs are no pairs.

    Raises:
        RuntimeError: Always.
    """
    if violation.endswith(f"{COPIED}."):
        raise RuntimeError(
            f"{violation} A seed that changes nothing makes a copy, and a test would take copies "
            "for samples. Let model and data draw from the generators that `seed_everything` "
            "seeds: leave out a fixed `seed_everything` or `manual_seed` of their own, or the "
            "fixed generator of a shuffling loader. Where nothing is left to chance, one seed "
            "shows all. Or add `--unpaired allow` to go on and leave copies out."
        )
    raise RuntimeError(
        f"{violation} They are no pair: their difference would hold more than the effect of the "
        "arm. Let model and data draw from the generators that `seed_everything` seeds, never "
        "from the clock or an unseeded `default_rng()`; an arm may add parameters to the "
        "baseline's, drawn from a generator of their own, and must keep the others by name. "
        "Measure all arms on one validation set: what says which it is belongs into `experiment`, "
        "in no overlay. Or add `--unpaired allow` to go on and leave such pairs out."
    )


def _violation(run: RecordedRun, baseline: RecordedRun) -> str:
    different = [name for name in PAIRED_CHECKS if agree(name, run, baseline) is False]
    if not different:
        return ""
    names = unlike(run.first_weights, baseline.first_weights)
    words = {**WORDS, INITIAL_WEIGHTS: WORDS[INITIAL_WEIGHTS] + _shown(names)}
    return _differ(run, baseline, " and ".join(words[name] for name in different))


def _differ(run: RecordedRun, baseline: RecordedRun, what: str) -> str:
    return f"Seed {run.seed}: {run.arm} and {baseline.arm} differ in the {what}."


def _shown(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
