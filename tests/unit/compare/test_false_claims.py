"""How often a comparison in which nothing differs claims that something does."""

import numpy as np
import pytest

from lightning_qsgd.compare import (
    Arm,
    Method,
    Outcome,
    analyse,
    verdicts,
)
from tests.comparison_cases import made_results

COMPARISONS, SEEDS, PAIRS_OF_ARMS = 200, 16, 8
METHOD = Method(resamples=999)
CLAIMS = {Outcome.BETTER, Outcome.WORSE, Outcome.MATCHED, Outcome.BEATEN}
ARMS = (
    Arm("base", "baseline"),
    *(Arm(f"arm{i}", controls=(f"control{i}",)) for i in range(PAIRS_OF_ARMS)),
    *(Arm(f"control{i}", "control") for i in range(PAIRS_OF_ARMS)),
)


def normal(draw):
    return draw.normal(size=(len(ARMS), SEEDS))


def skewed(draw):
    """Rare bad runs for everybody, baseline included."""
    return -draw.exponential(size=(len(ARMS), SEEDS))


def skewed_differences(draw):
    """Arms that differ from a quiet baseline by skewed noise (0.7) of mean zero."""
    values = draw.gamma(8.0, size=(len(ARMS), SEEDS)) - 8.0
    values[0] *= 0.1
    return values


def coarse(draw):
    """Few wrong answers out of few: many ties."""
    return draw.binomial(60, 0.95, size=(len(ARMS), SEEDS)) / 60


@pytest.mark.parametrize("null", [normal, skewed, coarse])
@pytest.mark.parametrize("seeds", [3, 4])
def test_claims_of_a_few_seeds_are_as_certain_as_those_of_many(null, seeds):
    draw, false = np.random.default_rng(12), 0
    for values in [null(draw) for _ in range(100)]:
        for base, arm in values[:12, :seeds].reshape(-1, 2, seeds).tolist():
            (judged,) = verdicts(analyse(made_results({"base": base, "arm": arm}), METHOD)).values()
            false += judged.outcome in CLAIMS
    assert false / 600 <= 0.05


@pytest.mark.parametrize("null", [normal, skewed, skewed_differences, coarse])
def test_at_most_one_null_comparison_in_twenty_claims_anything(null):
    draw = np.random.default_rng(11)
    names = [arm.name for arm in ARMS]
    false = 0
    for _ in range(COMPARISONS):
        results = made_results(dict(zip(names, null(draw).tolist(), strict=True)), ARMS)
        judged = verdicts(analyse(results, METHOD)).values()
        on_trial = [verdict for verdict in judged if verdict.arm.startswith("arm")]
        false += any(verdict.outcome in CLAIMS for verdict in on_trial)
    assert false / COMPARISONS <= 0.05
