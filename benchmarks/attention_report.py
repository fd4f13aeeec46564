"""The tables of `benchmarks.attention`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Times = dict[str, list[float]]
"""Milliseconds per call, round by round, of each contestant of a case."""


def ratio(times: Times, name: str, peer: str) -> float:
    """Return the median over rounds of one contestant's time over another's."""
    pairs = zip(times[name], times[peer], strict=True)
    return statistics.median(own / other for own, other in pairs)


def times_table(times: Mapping[str, Times]) -> Table:
    """Return medians, ranges and ratios to the first contestant of each case."""
    table = Table(title="process time per call, forward and backward: median (least to most)")
    for column in ("case", "contestant", "ms", "range", "ratio"):
        table.add_column(column, justify="left" if column in {"case", "contestant"} else "right")
    for case, rows in times.items():
        first = next(iter(rows))
        for name, each in rows.items():
            table.add_row(
                case if name == first else "",
                name,
                f"{statistics.median(each):.3f}",
                f"{min(each):.3f} to {max(each):.3f}",
                f"{ratio(rows, name, first):.2f}",
            )
        table.add_section()
    return table


def verdict_table(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """Return what was required and what was reached."""
    table = Table(title="required ratios")
    for column in ("case", "ratio", "at most", "reached", "holds"):
        table.add_column(column, justify="right" if column in {"at most", "reached"} else "left")
    for each in verdicts:
        table.add_row(
            each["case"],
            f"{each['name']} / {each['peer']}",
            f"{each['most']:.3g}",
            f"{each['ratio']:.3g}",
            "yes" if each["holds"] else "NO",
        )
    return table


def summary(times: Mapping[str, Times]) -> dict[str, Any]:
    """Return medians and ranges for the JSON, with ratios to the first contestant."""
    return {
        case: {
            name: {
                "median_ms": statistics.median(each),
                "least": min(each),
                "most": max(each),
                "ratio": ratio(rows, name, next(iter(rows))),
            }
            for name, each in rows.items()
        }
        for case, rows in times.items()
    }
