"""Checks, run by run, that the arms of a seed started alike and saw the same data."""

from dataclasses import dataclass, field

from lightning_qsgd.compare.results import (
    DATA_ORDER,
    INITIAL_WEIGHTS,
    PAIRED_CHECKS,
    RANDOM_STATE,
    ArmRun,
)
from lightning_qsgd.compare.running.job import Job
from lightning_qsgd.compare.running.stored_run import StoredRun

WORDS = {
    INITIAL_WEIGHTS: "initial weights",
    DATA_ORDER: "first batches",
    RANDOM_STATE: "random generators at the start of training",
}


@dataclass
class PairingGuard:
    """Compares each run with the first of its seed that ended.

    Attributes:
        violations: What was found, by (check, seed).
    """

    violations: list[str] = field(default_factory=list)
    _first: dict[int, ArmRun] = field(default_factory=dict)

    def look(self, job: Job, stored: StoredRun) -> str | None:
        """Compare a run with the others of its seed.

        Returns:
            What is wrong, in a sentence; None if nothing is, or the run failed.
        """
        run = stored.finished
        if run is None:
            return None
        other = self._first.setdefault(job.seed, run)
        different = [
            name for name in PAIRED_CHECKS if run.checks.get(name) != other.checks.get(name)
        ]
        if not different:
            return None
        what = " and ".join(WORDS.get(name, name) for name in different)
        found = f"Seed {job.seed}: {run.arm} and {other.arm} differ in the {what}."
        self.violations.append(found)
        return found


def refuse_unpaired(violation: str) -> None:
    """Stop a comparison whose runs are no pairs.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError(
        f"{violation} They are no pair: their difference would hold more than the effect of the "
        "arm. Let model and data draw from the generators that `seed_everything` seeds, never "
        "from the clock; or add `--unpaired allow` to go on and leave such pairs out."
    )
