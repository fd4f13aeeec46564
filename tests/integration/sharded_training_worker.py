"""What each of two processes does in the test of Lightning's ModelParallelStrategy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, Learning, Perturbation, RelativeInjection
from lightning_qsgd.training import PerturbationCallback, PerturbationMixin
from tests.integration.ddp_worker import PROCESSES, batches
from tests.integration.modules import Finished, MakeOptimizer, Probe, adamw, make_trainer, sgd
from tests.integration.processes import become_rank
from tests.integration.sharded_worker import whole
from tests.learning_cases import Entangled

EPOCHS = 2


def plain_sgd(parameters: Any) -> torch.optim.Optimizer:
    """Without momentum it has no state, which torch's checkpoints take for a fresh optimizer."""
    return torch.optim.SGD(parameters, lr=0.1)


class FullyShardedModule(Finished):
    """Somebody else's module, sharded with FSDP2."""

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])


class FullyShardedPerturbed(PerturbationMixin, FullyShardedModule):
    """The mixin over it."""


class TensorParallelModule(Finished):
    """Somebody else's module, cut inside its layers."""

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            plan = {"0": ColwiseParallel(), "3": RowwiseParallel()}
            parallelize_module(self.network, self.device_mesh["tensor_parallel"], plan)


@dataclass(frozen=True)
class Case:
    """One run that one and two processes must agree on."""

    perturbation: Perturbation
    module: type[Finished] = FullyShardedModule
    make: MakeOptimizer = sgd
    is_distributed: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


EXACT = Perturbation(coordinates=AllEntries(), strength=0.5)
SHOTS = Perturbation(SamplerBackend(SuperpositionCircuit(2), sampling=16), strength=0.9)
RELATIVE = Perturbation(coordinates=AllEntries(), injection=RelativeInjection())
LEARNED = Perturbation(Entangled(), AllEntries(), learning=Learning(0.1, 0.3))
CASES = {
    "callback, distributed checkpoint": Case(EXACT, make=plain_sgd),
    "callback, full checkpoint": Case(SHOTS, is_distributed=False),
    "mixin, distributed checkpoint": Case(LEARNED, FullyShardedPerturbed),
    "mixin, full checkpoint": Case(RELATIVE, FullyShardedPerturbed, adamw, is_distributed=False),
    "clipped": Case(EXACT, settings={"gradient_clip_val": 0.05}),
    "tensor parallel": Case(EXACT, TensorParallelModule),
}


def train(
    case: Case, folder: Path, rank: int | None = None, resume: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Run a case, or the rest of it; return the weights and the perturbation's own state."""
    probe = Probe()
    checkpoint = ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
    is_mixin = issubclass(case.module, PerturbationMixin)
    module: Any = case.module(make=case.make)
    module.perturbation = case.perturbation
    callbacks = [] if is_mixin else [PerturbationCallback(case.perturbation)]
    settings = {**case.settings, "max_epochs": EPOCHS, "enable_checkpointing": True}
    if rank is not None:
        settings |= {
            "strategy": _strategy(case),
            "devices": PROCESSES,
            "use_distributed_sampler": False,
        }
    share = None if issubclass(case.module, TensorParallelModule) else rank
    trainer = make_trainer(*callbacks, probe, checkpoint, **settings)
    trainer.fit(module, batches(share), ckpt_path=resume and folder / resume)
    (optimizer,) = probe.optimizers
    assert isinstance(optimizer, PerturbedOptimizer)
    weights = {name: whole(parameter) for name, parameter in module.named_parameters()}
    return weights, optimizer.own_state.to_dict()


def _strategy(case: Case) -> ModelParallelStrategy:
    cuts_layers = issubclass(case.module, TensorParallelModule)
    return ModelParallelStrategy(
        data_parallel_size=1 if cuts_layers else PROCESSES,
        tensor_parallel_size=PROCESSES if cuts_layers else 1,
        save_distributed_checkpoint=case.is_distributed,
        process_group_backend="gloo",
    )


def work(rank: int, processes: int, port: int, folder: Path) -> None:
    """Run all cases on this rank, uninterrupted and resumed, and save what came out."""
    become_rank(rank, processes, port)
    results = {
        name: [train(case, folder / name, rank, resume) for resume in (None, "epoch=0.ckpt")]
        for name, case in CASES.items()
    }
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
