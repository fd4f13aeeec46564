"""Whether the runs of a seed are a pair: same start, same data."""

from dataclasses import dataclass

from lightning_qsgd.compare.results import PAIRED_CHECKS, Results


@dataclass(frozen=True)
class PairingCheck:
    """What was found about one hash.

    Attributes:
        check: Name of the hash.
        equal: Number of runs that agree with the baseline's run of their seed.
        different: (Arm, seed) of the runs that do not.
        unknown: Number of runs where one of the two hashes, or the baseline's run, is missing.
    """

    check: str
    equal: int
    different: tuple[tuple[str, int], ...]
    unknown: int


def check_pairing(results: Results) -> list[PairingCheck]:
    """Compare the hashes of every run with those of the baseline's run of the same seed.

    Args:
        results: The runs.

    Returns:
        One finding per name in `PAIRED_CHECKS`.
    """
    return [_check(results, name) for name in PAIRED_CHECKS]


def unpaired(results: Results) -> set[tuple[str, int]]:
    """Return (arm, seed) of the runs that provably differ from the baseline's in a paired hash.

    They are left out of every difference: it would hold more than the effect of the arm.
    """
    return {key for found in check_pairing(results) for key in found.different}


def _check(results: Results, name: str) -> PairingCheck:
    expected = results.runs_of(results.comparison.baseline.name)
    equal, different, unknown = 0, [], 0
    for arm in results.comparison.challengers:
        for seed, run in results.runs_of(arm.name).items():
            theirs = expected[seed].checks.get(name) if seed in expected else None
            ours = run.checks.get(name)
            if ours is None or theirs is None:
                unknown += 1
            elif ours == theirs:
                equal += 1
            else:
                different.append((arm.name, seed))
    return PairingCheck(name, equal, tuple(different), unknown)
