"""What each of two processes does in the test of DistributedDataParallel."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.perturbations import AllEntries, Learning, Perturbation, RandomEntries
from lightning_qsgd.tracking import tags
from lightning_qsgd.training import ConvergenceCallback, Goal, PerturbationCallback
from tests.integration.modules import Finished, Perturbed, Probe, make_data, make_trainer, weights
from tests.integration.processes import become_rank
from tests.learning_cases import Entangled

PROCESSES = 2
BATCHES, GLOBAL_BATCH = 8, 8
SHARE = GLOBAL_BATCH // PROCESSES


class WithUnused(Finished):
    """One layer never takes part, so its gradient stays None."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unused = nn.Linear(3, 3)
        nn.init.constant_(self.unused.weight, 0.3)
        nn.init.constant_(self.unused.bias, 0.3)


@dataclass(frozen=True)
class Case:
    """One run that one and two processes must agree on."""

    perturbation: Perturbation
    settings: dict[str, Any] = field(default_factory=dict)
    strategy: dict[str, Any] = field(default_factory=dict)
    module: type[Finished] = Finished
    mixin: bool = False


EXACT = Perturbation(coordinates=AllEntries(), strength=0.5)
SHOTS = Perturbation(SamplerBackend(SuperpositionCircuit(2), sampling=16), AllEntries())
RANDOM = Perturbation(coordinates=RandomEntries(), strength=0.5)
LEARNED = Perturbation(Entangled(), AllEntries(), learning=Learning(0.1, 0.3))
CLIPPED = {"gradient_clip_val": 0.05, "accumulate_grad_batches": 3}
CASES = {
    "exact": Case(EXACT),
    "mixin": Case(EXACT, mixin=True),
    "shots": Case(SHOTS),
    "random entries": Case(RANDOM),
    "learned": Case(LEARNED),
    "clipping and accumulation": Case(EXACT, CLIPPED),
    "static graph": Case(EXACT, strategy={"static_graph": True}),
    "unused parameters": Case(EXACT, strategy={"find_unused_parameters": True}, module=WithUnused),
}


def batches(rank: int | None) -> DataLoader[Any]:
    """The share of a rank in the same global batches, or all of them for None."""
    dataset = TensorDataset(*make_data(BATCHES, GLOBAL_BATCH))
    own = range(GLOBAL_BATCH) if rank is None else range(rank * SHARE, (rank + 1) * SHARE)
    order = [batch * GLOBAL_BATCH + place for batch in range(BATCHES) for place in own]
    generator = torch.Generator().manual_seed(0)
    return DataLoader(dataset, len(own), sampler=order, generator=generator)


def train(case: Case, rank: int | None = None, perturbed: bool = True) -> tuple[Tensor, list[int]]:
    """Run a case in this process; return the weights and the number of perturbed steps."""
    probe = Probe()
    callbacks: list[Any] = [probe]
    module: Any = case.module()
    if perturbed and case.mixin:
        module = Perturbed(perturbation=case.perturbation)
    elif perturbed:
        callbacks.insert(0, PerturbationCallback(case.perturbation))
    settings = dict(case.settings)
    if rank is not None:
        strategy = DDPStrategy(process_group_backend="gloo", **case.strategy)
        settings |= {"strategy": strategy, "devices": PROCESSES, "use_distributed_sampler": False}
    make_trainer(*callbacks, **settings).fit(module, batches(rank))
    return weights(module), probe.applied


class SharesDiffer(Finished):
    """Logs no loss on process 1, which returns its own."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = nn.functional.cross_entropy(self.network(x), y)
        self.log("train/loss", loss, rank_zero_only=True)
        return loss


def record(rank: int | None = None) -> dict[str, Any]:
    """Train against a baseline of one process; return the record and its live gaps."""
    goal = Goal(metric="val/accuracy", target=0.4)
    baseline, own = ConvergenceCallback(goal), ConvergenceCallback(goal)
    make_trainer(baseline).fit(Finished(), batches(None), batches(None))
    own.baseline, settings = baseline.run, {}
    if rank is not None:
        strategy = DDPStrategy(process_group_backend="gloo")
        settings = {"strategy": strategy, "devices": PROCESSES, "use_distributed_sampler": False}
    gaps = Gaps()
    trainer = make_trainer(own, gaps, log_every_n_steps=1, **settings)
    trainer.fit(SharesDiffer(), batches(rank), batches(rank))
    curve = own.run.curve(goal.loss)
    return {"steps": curve.steps, "values": curve.values, "gaps": gaps.seen, **own.summary}


class Gaps(Callback):
    """Keeps the gap to the baseline at every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.seen.append(float(trainer.callback_metrics[tags.gap_tag("train/loss")]))


def work(rank: int, processes: int, port: int, folder: Path) -> None:
    """Run all cases on this rank and save what came out."""
    become_rank(rank, processes, port)
    results = {name: train(case, rank) for name, case in CASES.items()}
    results["record"] = record(rank)
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
