"""What a search over hyperparameters may try, on which seeds, within which budget."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil, floor, isfinite, sqrt
from numbers import Integral, Real
from typing import Any, Literal

from lightning_qsgd.compare.planning.job import has_place, value_at
from lightning_qsgd.compare.results.results import Scale

HIGHEST_SEED = 2**32 - 1
"""What numpy's global generator takes."""

MOST_SEEDS = 100_000
"""Of one block; the next one starts as far away."""


def _is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or numpy; true and false are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def seed_list(name: str, seeds: Any, first: int = 0) -> tuple[int, ...]:
    """Return the seeds that a config asks for.

    Args:
        name: Where the config says it, for error messages.
        seeds: The number of seeds, or the seeds.
        first: Seed to count from.

    Raises:
        ValueError: If there is none, or one is no whole number, out of range or named twice.

    Example:
        >>> seed_list("seeds", 3, first=100), seed_list("seeds", [7, 3])
        ((100, 101, 102), (7, 3))
    """
    given = list(seeds) if isinstance(seeds, Iterable) and not isinstance(seeds, str) else [seeds]
    if not all(map(_is_whole, given)):
        raise ValueError(
            f"Expected `{name}` to be the number of seeds or a list of seeds, got {seeds!r}: seeds "
            "are whole numbers. Write 8, or [0, 1, 2]."
        )
    is_number = _is_whole(seeds)
    if is_number and seeds > MOST_SEEDS:
        raise ValueError(
            f"Expected `{name}` to be at most {MOST_SEEDS} seeds, got {seeds}: so many runs would "
            "not end. A single seed is written as a list: [7]."
        )
    listed = tuple(map(int, range(first, first + seeds) if is_number else given))
    if not listed:
        raise ValueError(
            f"Expected `{name}` to be the number of seeds or a list of seeds, got {seeds}: nothing "
            "would be run. Give 1 or more."
        )
    if len(set(listed)) < len(listed):
        raise ValueError(
            f"Expected every seed in `{name}` once, got {seeds}: a repeated run would count twice. "
            "Remove the repetition."
        )
    if min(listed) < 0 or max(listed) > HIGHEST_SEED:
        raise ValueError(
            f"Expected the seeds in `{name}` between 0 and {HIGHEST_SEED}, got {seeds}: random "
            "generators take no others. Choose smaller ones."
        )
    return listed


@dataclass(frozen=True)
class Budget:
    """Limits every run in the same way, by steps, epochs or seconds.

    Args:
        max_steps: Steps of each run. A batch counts once, however many optimizers a module steps.
        max_epochs: Epochs of each run.
        seconds: Wall-clock seconds of training, validation included. Runs that are limited by the
            clock do not repeat bit for bit.

    Raises:
        ValueError: If not exactly one limit is given, or it is no number above 0, a whole one of
            steps or epochs.

    Example:
        >>> str(Budget(max_steps=300))
        '300 steps'
        >>> Budget(max_epochs=10).trainer_arguments
        {'max_steps': -1, 'max_epochs': 10, 'max_time': None}
    """

    max_steps: int | None = None
    max_epochs: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                "Expected exactly one of `budget.max_steps`, `budget.max_epochs` and "
                f"`budget.seconds`, got {sorted(given) or 'none'}: with several, it would depend "
                "on the arm which of them ends a run. Keep one."
            )
        for name, value in given.items():
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if not is_number or (name != "seconds" and not _is_whole(value)):
                what = "a number" if name == "seconds" else "a whole number"
                raise ValueError(
                    f"Expected `budget.{name}` to be {what}, got {value!r}: runs are measured by "
                    "it. Write it as a number, without quotes."
                )
            if not (isfinite(value) and value > 0):
                raise ValueError(
                    f"Expected `budget.{name}` to be above 0 and finite, got {value}: no run could "
                    "train with it. Give what one run may spend."
                )

    def __str__(self) -> str:
        if self.max_steps is not None:
            return f"{self.max_steps} steps"
        if self.max_epochs is not None:
            return f"{self.max_epochs} epochs"
        return f"{self.seconds:g} seconds"

    @property
    def length(self) -> int | None:
        """Steps or epochs; None for a budget of seconds."""
        return self.max_epochs if self.max_steps is None else self.max_steps

    def of_length(self, length: int) -> "Budget":
        """Return a budget of as many steps, or epochs, as the unit of this one is."""
        steps = self.max_steps is not None
        return Budget(length if steps else None, None if steps else length)

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """The limit as arguments of Lightning's Trainer, with all others lifted."""
        milliseconds = None if self.seconds is None else max(1, round(1000 * self.seconds))
        return {
            "max_steps": -1 if self.max_steps is None else self.max_steps,
            "max_epochs": -1 if self.max_epochs is None else self.max_epochs,
            "max_time": None if milliseconds is None else {"milliseconds": milliseconds},
        }


FIRST_TUNING_SEED = 100_000
"""Where the block of tuning seeds starts, unless they are listed."""

FIRST_FINAL_SEED = 150_000
"""Where the block of seeds starts at which the best settings are tried again."""

ALWAYS = ("lr", "weight_decay")
"""What a search has to name: on its own, either moves results by more than most perturbations."""

MOMENTUM = "beta1"
PLACES = {
    "lr": ("optimizer.init_args.lr",),
    "weight_decay": ("optimizer.init_args.weight_decay",),
    MOMENTUM: tuple(
        f"optimizer.init_args.{place}" for place in ("betas.0", "beta1", "momentum", "beta")
    ),
}
"""Where optimizers have what is tuned; the first place that an arm's configuration has counts."""


@dataclass(frozen=True)
class Range:
    """The values of one hyperparameter that are tried.

    Args:
        low: Least value.
        high: Greatest value.
        scale: What is searched evenly: "log" the value's logarithm, "linear" the value,
            "complement" the logarithm of one minus the value, as suits momentum.
        path: Where it is in the config of the run; None takes `lr`, `weight_decay` and `beta1`
            from `optimizer.init_args`, and the name itself for any other. A number in the path is
            an index: `optimizer.init_args.betas.0`.
        integer: Whether whole numbers alone are tried, as for a width. It has to be asked for: a
            config's `lr: 1` is a whole number too, and its search would find 0 and 1. Where a
            class takes nothing else, a range without it is refused before any run.

    Raises:
        ValueError: If the range is empty, has no logarithm, or whole numbers no whole ends.

    Example:
        >>> Range(1e-4, 1e-1).scale, Range(2, 64, integer=True).clipped(9.7)
        ('log', 10)
    """

    low: float
    high: float
    scale: Scale = "log"
    path: str | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"Expected a range with `low` below `high`, got [{self.low}, {self.high}]: there "
                "would be nothing to search. Widen it."
            )
        if self.scale == "log" and self.low <= 0:
            raise ValueError(
                f"Expected `low` above 0 on a log scale, got {self.low}: it has no logarithm. Use "
                "`scale: linear` or a positive bound."
            )
        if self.scale == "complement" and not 0 <= self.low < self.high < 1:
            raise ValueError(
                f"Expected a range from 0 to below 1 with `scale: complement`, got [{self.low}, "
                f"{self.high}]: one minus the value has no logarithm. Use `scale: linear`."
            )
        if self.integer and {self.low % 1, self.high % 1} != {0}:
            raise ValueError(
                f"Expected whole numbers as `low` and `high` with `integer: true`, got [{self.low},"
                f" {self.high}]: no other value is tried. Round them, or leave `integer` out."
            )

    @property
    def searched(self) -> tuple[float, float]:
        """The ends in what is drawn: one minus the value for "complement", else the value."""
        return (
            (1 - self.high, 1 - self.low) if self.scale == "complement" else (self.low, self.high)
        )

    def clipped(self, value: float) -> float:
        """Return the value of the range that is nearest; an int if it holds whole numbers."""
        inside = min(max(value, self.low), self.high)
        return round(inside) if self.integer else inside

    def turned(self, number: float) -> float:
        """Turn a value into what is drawn, or the other way round, up to rounding.

        Example:
            >>> round(Range(0.5, 0.98, "complement").turned(0.95), 6)
            0.05
        """
        return 1 - number if self.scale == "complement" else number

    def widened(self, end: Literal["low", "high"]) -> "Range":
        """Move one end outwards by half the width of the range, as it is searched.

        A range of numbers that are not negative stays one, one of whole numbers above 0 stays one,
        and momentum stays below 1.

        Example:
            >>> wider = Range(1e-4, 1e-2).widened("high")
            >>> wider.low, round(wider.high, 6)
            (0.0001, 0.1)
        """
        low, high = self.searched
        upwards = (end == "high") != (self.scale == "complement")
        if self.scale == "linear":
            half = (high - low) / 2
            least = 0.0 if low >= 0 else low - half
            low, high = (low, high + half) if upwards else (max(least, low - half), high)
        else:
            factor = sqrt(high / low)
            low, high = (low, high * factor) if upwards else (low / factor, high)
        if self.scale == "complement":
            low, high = 1 - min(high, 1.0), 1 - low
        if self.integer:
            low, high = max(floor(low), 1) if self.low >= 1 else floor(low), ceil(high)
        return replace(self, low=low, high=high)


DEFAULT_MOMENTUM = Range(0.5, 0.98, "complement")


@dataclass(frozen=True)
class Search:
    """Tunes the baseline and every tuned arm alike.

    Args:
        space: Ranges by name of the hyperparameter; `lr` and `weight_decay` must be there.
            `beta1`, the momentum, is searched too wherever an optimizer has one: give its range to
            change it.
        trials: Number of settings tried per arm.
        seeds: Seeds of each trial, none of which is reported: how many, or which.
        sampler_seed: Names the random stream of the search.
        extensions: How often an arm whose best value lies at the edge of a range gets a wider one,
            each time with a third of the trials more.
        finalists: How many of the best settings are tried again, at fresh seeds that choose among
            them; 1 takes the best trial. The best of many trials at few seeds is often a lucky one,
            such as a learning rate that is stable at just these seeds.
        final_seeds: Those fresh seeds, none of which is reported: how many, or which.

    Raises:
        ValueError: If lr or weight decay is missing, or a number is too small.

    Example:
        >>> sorted(Search().space), Search(seeds=2).seed_block
        (['beta1', 'lr', 'weight_decay'], (100000, 100001))
    """

    space: dict[str, Range] = field(
        default_factory=lambda: {
            "lr": Range(1e-4, 1e-1),
            "weight_decay": Range(1e-4, 1.0),
            MOMENTUM: DEFAULT_MOMENTUM,
        }
    )
    trials: int = 12
    seeds: int | list[int] = 3
    sampler_seed: int = 0
    extensions: int = 2
    finalists: int = 1
    final_seeds: int | list[int] = 4

    def __post_init__(self) -> None:
        missing = [name for name in ALWAYS if name not in self.space]
        if missing:
            raise ValueError(
                f"Expected `tuning.space` to hold {' and '.join(ALWAYS)}, got no "
                f"{' and no '.join(missing)}: an arm could seem better because the baseline was "
                "left at a poor value of it. Add a range."
            )
        for name in ("trials", "sampler_seed", "extensions", "finalists"):
            if not _is_whole(getattr(self, name)):
                raise ValueError(
                    f"Expected `tuning.{name}` to be a whole number, got "
                    f"{getattr(self, name)!r}: it is counted, or names a random stream. Write it "
                    "as a number, without quotes."
                )
        if self.trials < 1:
            raise ValueError(
                f"Expected `tuning.trials` to be at least 1, got {self.trials}: nothing would be "
                "tuned. Leave `tuning` out for that."
            )
        if self.extensions < 0:
            raise ValueError(
                f"Expected `tuning.extensions` to be 0 or more, got {self.extensions}: a range can "
                "be widened so often. Write 0 to keep every range."
            )
        if self.finalists < 1:
            raise ValueError(
                f"Expected `tuning.finalists` to be at least 1, got {self.finalists}: one setting "
                "has to be chosen. Write 1 to take the best trial, 3 to try the best three again."
            )
        if MOMENTUM not in self.space:
            object.__setattr__(self, "space", {**self.space, MOMENTUM: DEFAULT_MOMENTUM})

    @property
    def seed_block(self) -> tuple[int, ...]:
        """The tuning seeds."""
        return seed_list("tuning.seeds", self.seeds, FIRST_TUNING_SEED)

    @property
    def final_block(self) -> tuple[int, ...]:
        """The seeds at which the best settings are tried again; empty without finalists."""
        if self.finalists == 1:
            return ()
        return seed_list("tuning.final_seeds", self.final_seeds, FIRST_FINAL_SEED)

    def space_of(
        self, arm: str, config: Mapping[str, Any], own: Mapping[str, Range], strict: bool = False
    ) -> dict[str, Range]:
        """Return what is searched for an arm, with the places of its own configuration.

        Args:
            arm: Name of the arm, for error messages.
            config: Configuration of its runs.
            own: Ranges of the arm's own, which stand in front of those of the search.
            strict: Whether a missing learning rate, weight decay or named place is refused, as for
                the baseline; another arm goes without it.

        Raises:
            ValueError: If a hyperparameter that must be there is not, two ranges have one place, or
                nothing is left to search.
        """
        found: dict[str, Range] = {}
        for name, span in {**self.space, **own}.items():
            places = _places(name, span)
            place = next((path for path in places if has_place(config, path)), None)
            if place is not None:
                _require_free(place, name, found, arm)
                found[name] = replace(span, path=place)
            elif name in own or (strict and name != MOMENTUM):
                value_at(config, places[0], arm)  # says what is missing
        if not found:
            value_at(config, PLACES["lr"][0], arm)
        return found


def _places(name: str, span: Range) -> tuple[str, ...]:
    return (span.path,) if span.path is not None else PLACES.get(name, (name,))


def _require_free(place: str, name: str, found: Mapping[str, Range], arm: str) -> None:
    for other, span in found.items():
        if span.path == place:
            raise ValueError(
                f"Expected one range for `{place}` in the search of the arm {arm!r}, got {other!r} "
                f"and {name!r}: the last would win, and the other be drawn in vain. Leave one out, "
                f"or call a range of the arm's own `{other}`: it stands in front of the shared one."
            )
