"""Reads what any sampler returned for a batch as one array."""

from __future__ import annotations

from typing import Any

import numpy as np
from qiskit.primitives import BitArray, SamplerPubResult
from qiskit.result import QuasiDistribution

from lightning_qsgd.backends.plugins.outcome_table import OutcomeTable

MOST_BITS_IN_FULL = 12
"""Up to so many bits all outcomes have a column; above, only those that occurred."""


def outcome_probabilities(result: SamplerPubResult) -> tuple[list[int], np.ndarray]:
    """Return the probability of each outcome for each row of a PUB.

    Args:
        result: What a sampler returned for a PUB with an array of parameter values of shape (B,).

    Returns:
        The outcomes as integers, and their probabilities, shape (B, outcomes).
    """
    field = _field(result)
    if isinstance(field, OutcomeTable):
        return list(range(field.values.shape[-1])), field.probabilities
    outcomes, counts = _of_bits(field) if isinstance(field, BitArray) else _of_dicts(field)
    return outcomes, counts / counts.sum(axis=1, keepdims=True)


def _field(result: SamplerPubResult) -> Any:
    """Choose the register that `SamplerQNN` reads; several of other names are joined."""
    data = result.data
    if "meas" in data:
        return data["meas"]
    names = list(data)
    return data[names[0]] if len(names) == 1 else result.join_data()


def _of_bits(field: BitArray) -> tuple[list[int], np.ndarray]:
    """Count shots: those of all rows in one pass."""
    places = 256 ** np.arange(field.array.shape[-1] - 1, -1, -1, dtype=object)
    drawn = field.array @ (places if places[0] > 2**55 else places.astype(np.int64))
    if field.num_bits <= MOST_BITS_IN_FULL:
        known, column = np.arange(2**field.num_bits), drawn
    else:
        known, inverse = np.unique(drawn, return_inverse=True)
        column = inverse.reshape(drawn.shape)
    rows = np.arange(len(drawn))[:, None] * len(known)
    counts = np.bincount((rows + column).ravel(), minlength=len(drawn) * len(known))
    return known.tolist(), counts.reshape(len(drawn), len(known)).astype(float)


def _of_dicts(field: Any) -> tuple[list[int], np.ndarray]:
    """Ask for the counts row by row, as any container of a sampler has them."""
    rows = [QuasiDistribution(field.get_counts(row)) for row in range(field.shape[0])]
    outcomes = sorted({int(outcome) for row in rows for outcome in row})
    return outcomes, np.array([[row.get(outcome, 0.0) for outcome in outcomes] for row in rows])
