"""What is told of steps: slow circuits, once, and the sizes of several optimizers together."""

from time import sleep

import pytest
import torch
from lightning.pytorch import Trainer

from lightning_qsgd import (
    CompiledBackend,
    Perturbation,
    PerturbationCallback,
    SamplerBackend,
    SineBackend,
    SuperpositionCircuit,
)
from lightning_qsgd.data import DigitsDataModule
from lightning_qsgd.nn import MLP
from lightning_qsgd.optimizers import StepReport
from lightning_qsgd.training import Classifier
from lightning_qsgd.training.perturbation_monitor import SlowCircuits, together

EXACT = SamplerBackend(SuperpositionCircuit(2))


def told(steps, backend=EXACT):
    watch = SlowCircuits()
    said = [
        watch.see(StepReport(8, 80, circuits, perturbation, torch.ones(4)), whole, backend)
        for perturbation, whole, circuits in steps
    ]
    return [message for message in said if message is not None]


def test_slow_circuits_are_named_once_with_the_faster_backend():
    (message,) = told([(14.0, 14.1, 49)] * 4)

    assert message.startswith("14 s per step, 99% of it in 49 circuits; CompiledBackend gives the")
    assert message.endswith((" us.", " ms."))


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


class Slow(SineBackend):
    """Takes its time, and says that it evaluates circuits."""

    def readout(self, inputs, keys=None, weights=None):
        sleep(0.6)
        return super().readout(inputs, keys, weights)

    def circuits_for(self, num_blocks):
        return num_blocks


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_a_training_tells_it_after_its_first_steps_whether_or_not_it_logs(caplog):
    callback = PerturbationCallback(Perturbation(Slow(), strength=0.5))
    trainer = Trainer(
        max_steps=4,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        accelerator="cpu",
        limit_val_batches=0,
    )
    with caplog.at_level("INFO"):
        trainer.fit(Classifier(MLP()), datamodule=DigitsDataModule())

    assert caplog.text.count("perturb fewer entries") == 1


def made_report(added, base, whole, error):
    sums, known = torch.tensor([added, base, 0.0, 1.0]), whole is not None
    sampled = (torch.tensor(whole), torch.tensor(error)) if known else (None, None)
    return StepReport(4, 8, 2, 0.5, sums, *sampled, strength_factor=2.0)


def test_two_optimizers_are_measured_as_one_that_has_both_their_entries():
    both = together([made_report(9.0, 16.0, 20.0, 3.0), made_report(0.0, 9.0, 16.0, 4.0)])

    assert both.relative_size == pytest.approx(3 / 5)
    assert both.model_relative_size == pytest.approx(3 / 6)
    assert both.model_relative_size_error == pytest.approx(0.5 * (3 / 6) * 5 / 36)
    assert (both.touched, both.total, both.circuits, both.seconds) == (8, 16, 4, 1.0)
    assert both.strength_factor is None


def test_what_one_of_two_optimizers_did_not_measure_is_unknown_of_both():
    both = together([made_report(9.0, 16.0, 20.0, 3.0), made_report(9.0, 9.0, None, None)])

    assert both.model_relative_size is None
    assert both.relative_size == pytest.approx((18 / 25) ** 0.5)


def test_one_optimizer_is_measured_as_before():
    alone = made_report(9.0, 16.0, 20.0, 3.0)

    assert together([alone]) is alone
