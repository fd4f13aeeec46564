"""Results on disk: what a report needs, in files that people and programs can read."""

import hashlib
import io
import json
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from lightning_qsgd.atomic_file import write_atomically
from lightning_qsgd.compare.results.arm import Arm
from lightning_qsgd.compare.results.published import Published
from lightning_qsgd.compare.results.results import (
    Comparison,
    FailedRun,
    Provenance,
    Results,
    TunedArm,
    TunedValue,
)
from lightning_qsgd.compare.results.run_table import results_csv, timing_csv
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import RecordedRun, rebuilt_run

FORMAT = 1
RESULTS = "results.json"
CURVES = "curves.npz"
TABLE = "results.csv"
TIMING = "timing.csv"
AXES = ("steps", "epochs", "seconds", "values")


def save_results(results: Results, folder: Path) -> None:
    """Write `results.csv`, `timing.csv`, `curves.npz` and `results.json` into a folder.

    `results.csv` has the same bytes whenever the same comparison ends; wall-clock times are in the
    other files. `results.json`, written last, holds everything but the curves.

    Args:
        results: The runs.
        folder: Existing folder; files of these names are replaced.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    write_atomically(folder / TABLE, results_csv(results).encode())
    write_atomically(folder / TIMING, timing_csv(results).encode())
    packed = _packed_curves(results)
    write_atomically(folder / CURVES, packed)
    saved = json.loads(json.dumps(_to_json(results), allow_nan=False))
    text = json.dumps({**saved, DIGEST: _digest(saved, packed)}, indent=1, allow_nan=False)
    write_atomically(folder / RESULTS, text.encode())


def load_results(folder: Path) -> Results:
    """Read what `save_results` wrote.

    Args:
        folder: The folder of one comparison.

    Returns:
        The same results, runs in the order of arms and seeds.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is damaged or of another format.
    """
    for name in (RESULTS, CURVES):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"Cannot read the comparison in {folder}: there is no {name}. Pass the folder of a "
                "comparison that has ended, or run the comparison to its end."
            )
    try:
        saved = json.loads(_bounded(folder / RESULTS))
        packed = _bounded(folder / CURVES)
        if saved["format"] != FORMAT:
            raise ValueError(f"format {saved['format']}")
        digest = saved.pop(DIGEST, None)  # not stored by earlier versions
        if digest is not None and digest != _digest(saved, packed):
            raise ValueError("a checksum that differs")
        return _from_json(saved, _unpacked(packed))
    except Exception as error:  # whatever the readers of damaged files raise
        raise ValueError(
            f"Cannot read the comparison in {folder}: {error!r} does not fit format {FORMAT}. It "
            f"was written by another version or is damaged; {RESULTS} and {CURVES} are left as "
            "they are. Repeat the command of the comparison: it goes on from the stored runs."
        ) from error


def stored_results(folder: Path) -> Results | None:
    """Read what `save_results` wrote, if it is there and intact: else it is written anew."""
    try:
        return load_results(folder)
    except (FileNotFoundError, ValueError):
        return None


DIGEST = "sha256"
LARGEST = 2**28
"""Bytes of a file, and of what an archive unpacks to, above which they are not read."""


def _bounded(file: Path) -> bytes:
    if file.stat().st_size > LARGEST:
        raise ValueError(f"{file.name} with more than {LARGEST} bytes")
    return file.read_bytes()


def _digest(saved: dict[str, Any], packed: bytes) -> str:
    text = json.dumps(saved, sort_keys=True)
    return hashlib.sha256(text.encode() + packed).hexdigest()


def _unpacked(packed: bytes) -> dict[str, NDArray[np.float64]]:
    # From memory: numpy leaves a damaged file open.
    with ZipFile(io.BytesIO(packed)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
            raise ValueError(f"{CURVES} that unpacks to more than {LARGEST} bytes")
    with np.load(io.BytesIO(packed), allow_pickle=False) as curves:
        return {name: np.asarray(curves[name], np.float64) for name in curves}


def _packed_curves(results: Results) -> bytes:
    arrays = {
        _key(run.arm, run.seed, tag): np.array([getattr(curve, axis) for axis in AXES], np.float64)
        for run in results.runs
        for tag, curve in run.curves.items()
    }
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


def _key(arm: str, seed: int, tag: str) -> str:
    return f"{arm}/{seed}/{tag}"


def _to_json(results: Results) -> dict[str, Any]:
    order = {key: number for number, key in enumerate(results.planned)}
    runs = sorted(results.runs, key=lambda run: order[run.arm, run.seed])
    saved = {
        "format": FORMAT,
        "comparison": asdict(results.comparison),
        "runs": [{**asdict(replace(run, curves={})), "curves": list(run.curves)} for run in runs],
        "failures": [asdict(failure) for failure in results.failures],
        "tuning": [asdict(tuned) for tuned in results.tuning],
        "provenance": {
            **vars(results.provenance),
            "versions": dict(results.provenance.versions),
        },
        "horizons": {length: _to_json(part) for length, part in results.horizons.items()},
        "untuned": dict(results.untuned),
        "fingerprints": dict(results.fingerprints),
    }
    plain: dict[str, Any] = _without_infinity(saved)
    return plain


def _without_infinity(value: Any) -> Any:
    # JSON knows neither nan nor inf; `float` reads their names.
    if isinstance(value, float) and not isfinite(value):
        return repr(float(value))
    if isinstance(value, dict):
        return {key: _without_infinity(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(inner) for inner in value]
    return value


Curves = dict[str, NDArray[np.float64]]


def _from_json(saved: dict[str, Any], curves: Curves | None) -> Results:
    return Results(
        _comparison(saved["comparison"]),
        tuple(_run(run, curves) for run in saved["runs"]),
        tuple(FailedRun(**failure) for failure in saved["failures"]),
        tuple(_tuned(tuned) for tuned in saved["tuning"]),
        Provenance(**saved["provenance"]),
        # Not stored by earlier versions; without curves.
        {int(n): _from_json(part, None) for n, part in saved.get("horizons", {}).items()},
        saved.get("untuned", {}),
        {arm: tuple(noted) for arm, noted in saved.get("fingerprints", {}).items()},
    )


def _comparison(saved: dict[str, Any]) -> Comparison:
    arms = tuple(_arm(arm) for arm in saved["arms"])
    goal = Goal(**saved["goal"])
    published = Published(**saved.get("published", {}))  # not stored by earlier versions
    lists = {name: tuple(saved.get(name, ())) for name in ("seeds", "left_out")}
    parts = {"goal": goal, "arms": arms, "published": published}
    return Comparison(**{**saved, **lists, **parts})


def _arm(saved: dict[str, Any]) -> Arm:
    lists = {name: tuple(saved.get(name, ())) for name in ("controls", "lacks", "remarks")}
    return Arm(**{**saved, **lists})


def _run(saved: dict[str, Any], curves: Curves | None) -> RecordedRun:
    if curves is None:
        return rebuilt_run({**saved, "curves": {}})
    own = {tag: _points(curves[_key(saved["arm"], saved["seed"], tag)]) for tag in saved["curves"]}
    return rebuilt_run({**saved, "curves": own})


def _points(curve: NDArray[np.float64]) -> dict[str, list[float]]:
    return dict(zip(AXES, curve.tolist(), strict=True))


def _tuned(saved: dict[str, Any]) -> TunedArm:
    values = tuple(TunedValue(**value) for value in saved["values"])
    blocks = {name: tuple(saved.get(name, ())) for name in ("seeds", "final_seeds", "inert")}
    return TunedArm(**{**saved, **blocks, "values": values, "score": float(saved["score"])})
