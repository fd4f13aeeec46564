"""Slow circuits are named once, with what would be faster."""

import torch

from lightning_qsgd import CompiledBackend, SamplerBackend, SuperpositionCircuit
from lightning_qsgd.optimizers import StepReport
from lightning_qsgd.training.slow_circuits import SlowCircuits

EXACT = SamplerBackend(SuperpositionCircuit(2))


def told(steps, backend=EXACT):
    said = []
    watch = SlowCircuits(said.append)
    for perturbation, whole, circuits in steps:
        watch.see(StepReport(8, 80, circuits, perturbation, torch.ones(4)), whole, backend)
    return said


def test_slow_circuits_are_named_once_with_the_faster_backend():
    (message,) = told([(14.0, 14.1, 49)] * 4)

    assert message.startswith("14 s per step, 99% of it in 49 circuits; CompiledBackend gives the")
    assert message.endswith(" ms.")


def test_the_first_step_does_not_count_since_it_builds_circuits():
    assert told([(14.0, 14.1, 49), (0.01, 0.02, 49)]) == []


def test_fast_circuits_and_a_slow_network_are_no_reason():
    assert told([(0.1, 0.11, 49)] * 3) == []
    assert told([(1.0, 9.0, 49)] * 3) == []
    assert told([(2.0, 2.1, 0)] * 3) == []  # no circuit: a closed form


def test_shots_and_compiled_circuits_are_told_to_do_less():
    for backend in (SamplerBackend(SuperpositionCircuit(2), sampling=16), CompiledBackend()):
        (message,) = told([(2.0, 2.1, 49)] * 3, backend)

        assert "perturb fewer entries" in message
        assert "CompiledBackend gives" not in message
