"""The forecast of memory against what a process takes, and refusals before it is allocated."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from qiskit.circuit.library import efficient_su2

from lightning_qsgd.backends.compiled import CompiledCircuit, compiled_circuit
from lightning_qsgd.backends.compiled.lowering import vectors_expected
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit

MEASURE = """
import ctypes, sys, torch
from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.circuits import SuperpositionCircuit

def run(qubits, rows, read):
    compiled = CompiledCircuit(SuperpositionCircuit(qubits))
    x, w = torch.rand(rows, qubits), torch.rand(compiled.num_weights, requires_grad=True)
    getattr(compiled, read)(x, w).square().sum().backward()

def status(name):  # of this process alone: ru_maxrss would count the parent before exec
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

torch.set_num_threads(1)
run(2, 2, "outputs"), run(2, 2, "marginals")
def growth(qubits, rows, read):
    ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
    before = status("VmRSS")
    run(int(qubits), int(rows), read)
    return status("VmHWM") - before

for case in sys.argv[1:]:  # a system short of memory takes pages away, and the count with them
    print(max(growth(*case.split(",")) for _ in range(2)))
"""
CASES = [(14, 256, "outputs"), (18, 1, "marginals")]


def forecast(qubits: int, rows: int, outputs: int) -> int:
    """Find the limit, in bytes, at which the evaluation is accepted."""
    compiled = CompiledCircuit(SuperpositionCircuit(qubits))
    low, high = 0, 4 * 2**30
    while high - low > 2**20:
        compiled.memory_limit_gib = (low + high) / 2 / 2**30
        try:
            compiled._check_memory(rows, torch.float32, outputs, torch.device("cpu"))
            high = (low + high) // 2
        except ValueError:
            low = (low + high) // 2
    return high


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_forecast_is_above_the_measured_peak_but_not_far() -> None:
    cases = [f"{qubits},{rows},{read}" for qubits, rows, read in CASES]
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, *cases]
    # Each large block is given back when it is freed. The gaps that a heap of the default settings
    # keeps differ by a quarter of all from process to process.
    settings = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**17)}
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, env=settings
    ).stdout
    for (qubits, rows, read), line in zip(CASES, printed.split(), strict=True):
        expected = forecast(qubits, rows, 2**qubits if read == "outputs" else qubits)
        assert int(line) <= expected <= 2 * int(line)  # room for the gaps of a heap


def test_forty_qubits_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ValueError, match=r"1 circuit\(s\) of 40 qubits at once: .* GiB, over the"):
        CompiledCircuit(SuperpositionCircuit(40))


def test_large_circuit_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = SuperpositionCircuit(22).build()
    monkeypatch.setattr(compiled_circuit, "lower", None)  # nothing is built before
    with pytest.raises(ValueError, match=r"1 circuit\(s\) of 22 qubits at once: .* GiB, over the"):
        CompiledCircuit(built)


@pytest.mark.parametrize("reps", [1, 3])
def test_vectors_are_counted_before_they_are_built(reps: int) -> None:
    circuits = SuperpositionCircuit(5, reps).build(), ParametrizedCircuit(*su2(reps))
    for built in circuits:
        compiled = CompiledCircuit(built)
        counted = vectors_expected(built.circuit)
        assert counted <= compiled._program.num_vectors <= counted + 3 * (reps + 1)


def su2(reps: int) -> Any:
    circuit = efficient_su2(5, reps=reps)
    return circuit, [], list(circuit.parameters)


def test_huge_batch_is_refused_before_anything_is_allocated() -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(10, reps=1))
    inputs, weights = torch.zeros(1, 10).expand(10**7, 10), torch.zeros(20)
    with pytest.raises(ValueError, match=r"10000000 circuit\(s\) of 10 qubits .* about 3\d\d.*GiB"):
        compiled.outputs(inputs, weights)
    with pytest.raises(ValueError, match=r"over the limit of 4\.00 GiB\. Use smaller batches"):
        compiled.check_memory(10**7)


def test_program_of_many_gates_is_refused_while_it_is_built() -> None:
    with pytest.raises(ValueError, match=r"16 qubits at once: .*over the limit of 102\.40 MiB"):
        CompiledCircuit(SuperpositionCircuit(16, reps=8), memory_limit_gib=0.1)
    CompiledCircuit(SuperpositionCircuit(16, reps=1), memory_limit_gib=0.1)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_under_which_nothing_fits_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match=r"Expected `memory_limit_gib` to be positive, got"):
        CompiledCircuit(SuperpositionCircuit(2), memory_limit_gib=limit)
