"""What runs have in common: the start and the data of a pair, the ends of trials."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.training.recorded_run import (
    DATA_ORDER,
    FINAL_WEIGHTS,
    INITIAL_BUFFERS,
    INITIAL_WEIGHTS,
    PAIRED_CHECKS,
    SEEN_BATCHES,
    TRAINED_ON,
    RecordedRun,
    changed,
    start_alike,
)


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


def agree(check: str, run: RecordedRun, baseline: RecordedRun) -> bool | None:
    """Tell whether two runs agree in one of `PAIRED_CHECKS` or `TRAINED_ON`.

    First weights are compared tensor by tensor, so that an arm may have parameters besides the
    baseline's; see `start_alike`. Runs stored without them are compared by the hash of the whole.
    Of a run that ended before its 8th batch, the batches that it saw are compared.

    Returns:
        The answer; None if either run did not record it.
    """
    if check == INITIAL_WEIGHTS:
        alike = start_alike(run.first_weights, baseline.first_weights)
        if alike is not None:
            return alike
    ours, theirs = run.checks.get(check), baseline.checks.get(check)
    if check == DATA_ORDER and ours != theirs and _begin_alike(run, baseline):
        return True
    return None if ours is None or theirs is None else ours == theirs


def _begin_alike(run: RecordedRun, other: RecordedRun) -> bool:
    """Whether two runs saw the same batches for as long as both went on; `ended_apart` names them.

    No, if either did not record it, as runs of earlier versions.
    """
    both = [one.checks.get(SEEN_BATCHES, "").split() for one in (run, other)]
    fewer, more = sorted(both, key=len)
    return bool(fewer) and fewer == more[: len(fewer)]


def check_pairing(results: Results) -> list[PairingCheck]:
    """Compare every run with the baseline's run of the same seed.

    Args:
        results: The runs.

    Returns:
        One finding per name in `PAIRED_CHECKS`, and one of the buffers where runs share any.
    """
    return [*(_check(results, name) for name in PAIRED_CHECKS), *_check_buffers(results)]


def unpaired(results: Results) -> set[tuple[str, int]]:
    """Return (arm, seed) of the runs that provably differ from the baseline's in a paired hash.

    They are left out of every difference: it would hold more than the effect of the arm.
    """
    return {key for found in check_pairing(results) for key in found.different}


def marks_of(run: RecordedRun, other: RecordedRun, metric: str) -> Hashable | None:
    """Return what pairs of two seeds have in common only if one is a copy of the other.

    A seed that changes nothing gives the same first weights, batches, final weights and metric. The
    state of the generators does not count: nothing may draw from them. Where one of two arms varies
    with the seed, as by dropout, so do their gains, and the pairs are no copies.

    Args:
        run: Run of an arm.
        other: Run of another arm at the same seed.
        metric: Name of the goal's metric.

    Returns:
        The marks; None if the final weights are unknown, or neither run has moved any.
    """
    both = (run, other)
    first, final = ([one.checks.get(name) for one in both] for name in _FIRST_AND_FINAL)
    if None in final or first == final:
        return None
    order = [one.checks.get(DATA_ORDER) for one in both]
    values = [repr(one.final.get(metric)) for one in both]
    return tuple(zip(first, order, final, values, strict=True))


_FIRST_AND_FINAL = (INITIAL_WEIGHTS, FINAL_WEIGHTS)


def copied(results: Results, arm: str, other: str) -> dict[int, int]:
    """Find seeds at which two arms did, to the last bit, what they did at an earlier seed.

    Such a pair is no further sample: left in, one pair made eight times would pass for eight.

    Returns:
        The earlier seed, by seed.
    """
    theirs, metric = results.runs_of(other), results.comparison.goal.metric
    first, found = dict[Hashable, int](), dict[int, int]()
    for seed, run in results.runs_of(arm).items():
        marks = marks_of(run, theirs[seed], metric) if seed in theirs else None
        if marks is not None and first.setdefault(marks, seed) != seed:
            found[seed] = first[marks]
    return found


def drawn_apart(pairs: Mapping[int, tuple[RecordedRun, RecordedRun]]) -> dict[int, list[str]]:
    """Find buffers that were drawn, and not alike: those besides the stored weights.

    A buffer that each of two arms has alike at all seeds, with other values, is no draw. It is what
    the arm is on trial for, such as the frequencies of a rotary embedding.

    Args:
        pairs: Runs of an arm and of the baseline, by seed.

    Returns:
        Names of buffers by seed, of seeds with such a buffer alone.
    """
    first = next(iter(pairs.values()), None)
    drawn = {
        name
        for pair in pairs.values()
        for one, known in zip(pair, first or pair, strict=True)
        for name in changed(one.first_weights.buffers, known.first_weights.buffers)
    }
    found = {
        seed: changed(run.first_weights.buffers, baseline.first_weights.buffers)
        for seed, (run, baseline) in pairs.items()
    }
    own = {seed: [name for name in names if name in drawn] for seed, names in found.items()}
    return {seed: names for seed, names in own.items() if names}


def _check_buffers(results: Results) -> list[PairingCheck]:
    """Compare buffers as `_check` does hashes; nothing is said where no two runs share any."""
    theirs = results.runs_of(results.comparison.baseline.name)
    equal, unknown, different = 0, 0, list[tuple[str, int]]()
    for arm in results.comparison.challengers:
        ours = results.runs_of(arm.name)
        pairs = {seed: (run, theirs[seed]) for seed, run in ours.items() if seed in theirs}
        found = [[one.first_weights.buffers for one in pair] for pair in pairs.values()]
        shared = [pair for pair in found if pair[0].keys() & pair[1].keys()]
        equal += sum(not changed(*pair) for pair in shared)
        unknown += len(ours) - len(shared)
        different += [(arm.name, seed) for seed in drawn_apart(pairs)]
    check = PairingCheck(INITIAL_BUFFERS, equal, tuple(different), unknown)
    return [check] if equal or different else []


def ended_apart(results: Results) -> dict[str, list[int]]:
    """Find runs that trained for another number of steps than their arm's, or the baseline's do.

    With a budget of steps or epochs all should train alike, unless something ends a run early, an
    epoch has another length, or an earlier version counted steps otherwise. In a budget of seconds
    they need not.

    Returns:
        Seeds by arm, of arms with such a run alone; none where curves were not kept.
    """
    if not results.comparison.length:
        return {}
    found = dict[str, set[int]]()
    for arm in results.comparison.arms:
        ends = {seed: _last_step(run) for seed, run in results.runs_of(arm.name).items()}
        usual = Counter(end for end in ends.values() if end).most_common(1)
        for seed, end in ends.items():
            if end and end != usual[0][0]:
                found.setdefault(arm.name, set()).add(seed)
    for (name, seed), run, baseline in _pairs(results):
        both = set() if baseline is None else {_last_step(run), _last_step(baseline)}
        if len(both - {0.0}) > 1:
            found.setdefault(name, set()).add(seed)
    return {name: sorted(seeds) for name, seeds in found.items()}


def trained_apart(results: Results) -> dict[str, list[tuple[RecordedRun, RecordedRun]]]:
    """Find pairs of runs that took the same steps, on more or less data.

    Batches, their rows and the length of an epoch are what a run has counted itself, whatever asked
    for them: a callback that accumulates gradients, a loader that grows, another data set.

    Returns:
        Pairs of an arm's run and the baseline's, by arm, of arms with such a pair alone; runs that
        earlier versions stored, without counts, are in none.
    """
    found = dict[str, list[tuple[RecordedRun, RecordedRun]]]()
    for (name, _), run, baseline in _pairs(results):
        if baseline is None or _last_step(run) != _last_step(baseline):
            continue
        if any(agree(check, run, baseline) is False for check in TRAINED_ON):
            found.setdefault(name, []).append((run, baseline))
    return found


def _last_step(run: RecordedRun) -> float:
    """Return the last step of any curve; 0 without one."""
    return max((curve.steps[-1] for curve in run.curves.values() if curve.steps), default=0.0)


def parameters_of(results: Results, arm: str) -> int:
    """Return the number of trainable numbers in an arm's model; 0 if no run recorded it."""
    return max((run.first_weights.parameters for run in results.runs_of(arm).values()), default=0)


def extra_parameters(results: Results) -> dict[str, int]:
    """Return by how many parameters arms exceed the baseline; negative if they have fewer.

    Returns:
        Differences by arm, of those arms alone whose number is known and another.
    """
    base = parameters_of(results, results.comparison.baseline.name)
    known = {arm.name: parameters_of(results, arm.name) for arm in results.comparison.challengers}
    return {arm: own - base for arm, own in known.items() if base and own and own != base}


def _check(results: Results, name: str) -> PairingCheck:
    equal, different, unknown = 0, [], 0
    for key, run, baseline in _pairs(results):
        answer = None if baseline is None else agree(name, run, baseline)
        if answer is None:
            unknown += 1
        elif answer:
            equal += 1
        else:
            different.append(key)
    return PairingCheck(name, equal, tuple(different), unknown)


def _pairs(results: Results) -> Iterator[tuple[tuple[str, int], RecordedRun, RecordedRun | None]]:
    expected = results.runs_of(results.comparison.baseline.name)
    for arm in results.comparison.challengers:
        for seed, run in results.runs_of(arm.name).items():
            yield (arm.name, seed), run, expected.get(seed)


def inert_values(trials: Sequence[tuple[Mapping[str, float], Any]]) -> tuple[str, ...]:
    """Name the values that moved nothing: as many as the trials allow.

    Values are without effect if trials that agree in all others, and differ in these, always end
    with the same weights. Where no two trials agree in the others, nothing is known.

    Args:
        trials: Values by name, and hashes of the final weights, trial by trial.

    Example:
        >>> inert_values([({"lr": 1.0, "wd": 0.1}, "a"), ({"lr": 1.0, "wd": 0.2}, "a")])
        ('wd',)
    """
    names = [*trials[0][0]] if trials else []
    for number in range(len(names), 0, -1):
        for chosen in combinations(names, number):
            ends: dict[Any, set[Any]] = {}
            settings: dict[Any, set[Any]] = {}
            for values, end in trials:
                others = tuple(value for name, value in values.items() if name not in chosen)
                ends.setdefault(others, set()).add(end)
                settings.setdefault(others, set()).add(tuple(values[name] for name in chosen))
            several = [group for group in settings.values() if len(group) > 1]
            differ = all(
                any(len({s[place] for s in group}) > 1 for group in several)
                for place in range(number)
            )
            if differ and all(len(found) == 1 for found in ends.values()):
                return chosen
    return ()
