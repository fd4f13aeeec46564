"""The three tutorial networks of `examples/`, trained by `CircuitLayer` and by `TorchConnector`.

    python -m benchmarks.layer_tutorial

The same data, first weights and steps for both; seconds of process time on one thread. Writes
benchmarks/results/layer_tutorial.json.
"""

from __future__ import annotations

import json
import runpy
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from qiskit_machine_learning.connectors import TorchConnector

from lightning_qsgd.nn import CircuitLayer

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "layer_tutorial.json"
EXAMPLES = ("layer_classification", "layer_regression", "layer_images")
LAYERS = {"CircuitLayer": CircuitLayer, "TorchConnector": TorchConnector}


def measure(train: Callable[[Any], dict[str, float]], layer: Any) -> dict[str, float]:
    """Train once; return the scores and the seconds."""
    start = time.process_time()
    scores = train(layer)
    return {**scores, "seconds": time.process_time() - start}


def main() -> None:
    """Train all and write scores and times."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    record = {}
    for name in EXAMPLES:
        train = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]
        record[name] = {label: measure(train, layer) for label, layer in LAYERS.items()}
        print(name, json.dumps(record[name], indent=1))
    RESULTS.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
