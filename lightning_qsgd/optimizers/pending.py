"""The last perturbation, kept until the next gradient tells what it did."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.rows import ParamGroups, real_numel, specs_of
from lightning_qsgd.optimizers.touched import indexed_entries
from lightning_qsgd.perturbations.step import Row

Place = tuple[int, int, slice | Tensor]
"""A parameter's position in its optimizer, its size, and the indices of its touched entries."""


@dataclass(frozen=True)
class Pending:
    """What one step added, per unit of what is learned.

    Attributes:
        places: The touched entries.
        step: The optimizer step at which it was added; names the shots.
        direction: What a factor of 1 adds, c * u, shape (entries,).
        coefficients: What a modulation of 1 adds, c, shape (entries,); None if no weights are
            learned.
        inputs: The parameters before the step, shape (entries,); None if no weights are learned.
        entries: The touched entries, as long as they are at hand; not saved.
    """

    places: tuple[Place, ...]
    step: int
    direction: Tensor
    coefficients: Tensor | None = None
    inputs: Tensor | None = None
    entries: Entries | None = field(default=None, repr=False)

    def entries_in(self, groups: ParamGroups) -> Entries | None:
        """Find the touched entries again; None if the parameters have been exchanged since."""
        specs = list(specs_of(groups))
        if any(p >= len(specs) or specs[p][2].numel != numel for p, numel, _ in self.places):
            return None
        if self.entries is not None:
            rows = self.entries.rows
            same = all(specs[int(row.name)][0] is row.parameter for row in rows)
            return self.entries if same else None
        found = [(specs[position], chosen) for position, _, chosen in self.places]
        return indexed_entries(
            [Row(parameter, group, spec.name, chosen) for (parameter, group, spec), chosen in found]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, safe for ``torch.load(weights_only=True)``."""
        return {
            "places": [[*place, _plain(chosen)] for *place, chosen in self.places],
            "step": self.step,
            "direction": self.direction,
            "coefficients": self.coefficients,
            "inputs": self.inputs,
        }

    @staticmethod
    def from_dict(saved: Any) -> "Pending":
        """Read what `to_dict` returned.

        Raises:
            ValueError: If something is missing, or the sizes do not agree.
        """
        try:
            places = tuple((int(p), int(n), _chosen(plain)) for p, n, plain in saved["places"])
            vectors = [saved[name] for name in ("direction", "coefficients", "inputs")]
            total = sum(_size(chosen) for *_, chosen in places)
            if any(_end(chosen) > numel for _, numel, chosen in places) or any(
                vector is not None and vector.shape != (total,) for vector in vectors
            ):
                raise ValueError(f"expected {total} entries inside their tensors")
            return Pending(places, int(saved["step"]), *vectors)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Cannot load the last perturbation, from which the next step learns: {error!r}. "
                "The checkpoint is damaged; load an earlier one."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return vars(replace(self, entries=None))


def places_of(rows: Sequence[Row]) -> tuple[Place, ...]:
    """Say where the touched entries lie; a row is named by its parameter's position."""
    return tuple((int(row.name), real_numel(row.parameter), row.chosen) for row in rows)


def _plain(chosen: slice | Tensor) -> list[int] | Tensor:
    return [chosen.start, chosen.stop] if isinstance(chosen, slice) else chosen


def _chosen(plain: list[int] | Tensor) -> slice | Tensor:
    return plain if isinstance(plain, Tensor) else slice(*plain)


def _size(chosen: slice | Tensor) -> int:
    return len(chosen) if isinstance(chosen, Tensor) else int(chosen.stop - chosen.start)


def _end(chosen: slice | Tensor) -> int:
    return int(chosen.max()) + 1 if isinstance(chosen, Tensor) else int(chosen.stop)
