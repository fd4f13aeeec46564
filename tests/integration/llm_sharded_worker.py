"""What each of two processes does in the test of a sharded language model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from lightning_qsgd.llm import LinearSchedule, LoRA, Packed
from lightning_qsgd.llm.layouts import Example
from lightning_qsgd.perturbations import AllEntries, Perturbation, RelativeInjection
from lightning_qsgd.training import PerturbationCallback
from tests.integration.processes import become_rank
from tests.llm_cases import VOCAB_SIZE, language_model

PROCESSES = 2
STEPS, ROWS, CONTEXT = 4, 4, 24
Rows = list[list[Example]]


@dataclass(frozen=True)
class Case:
    """One training that one process and two must agree on."""

    perturbation: Perturbation | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    changes: tuple[Any, ...] = ()


SINE = Perturbation(coordinates=AllEntries(), strength=20.0)
CASES = {
    "plain": Case(),
    "perturbed": Case(SINE),
    "relative": Case(Perturbation(coordinates=AllEntries(), injection=RelativeInjection())),
    "clipped": Case(SINE, {"gradient_clip_val": 0.5}),
    # The larger its scale, the further its gradients are from where Adam amplifies rounding.
    "LoRA": Case(SINE, changes=(LoRA(rank=2, alpha=128.0),)),
}


def batches(rank: int | None) -> DataLoader[Any]:
    """The share of a rank in the same global batches, or all of them for None.

    Every row has as many answer tokens as the others, so that the mean over processes of their
    means is the mean of the whole batch.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, VOCAB_SIZE, (STEPS * ROWS, CONTEXT - 2), generator=generator)
    rows = [[Example(row[:9].int(), 4), Example(row[9:].int(), 5)] for row in tokens]
    size = ROWS if rank is None else ROWS // PROCESSES
    start = 0 if rank is None else rank * size
    order = [batch * ROWS + start + place for batch in range(STEPS) for place in range(size)]

    def collate(chosen: Rows) -> dict[str, Tensor]:
        return Packed(CONTEXT).collate(chosen, pad_token=0)

    return DataLoader(
        rows,  # type: ignore[arg-type]
        size,
        sampler=order,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )


class Watch(Callback):
    """Keeps the whole weights as they are when training ends, and how many tensors were shards."""

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        parameters = dict(pl_module.named_parameters())
        self.shards = sum(isinstance(p, DTensor) for p in parameters.values())
        self.weights = {name: _whole(p) for name, p in parameters.items()}


def _whole(parameter: Any) -> Tensor:
    own = parameter.detach()
    return (own.full_tensor() if isinstance(own, DTensor) else own).clone()


def train(case: Case, rank: int | None = None) -> dict[str, Any]:
    """Run a case in this process; return whole weights and the number of shards."""
    torch.manual_seed(0)
    module = language_model(
        schedule=LinearSchedule(1), learning_rate=1e-2, changes=list(case.changes)
    )
    watch = Watch()
    callbacks: list[Callback] = [watch]
    if case.perturbation is not None:
        callbacks.append(PerturbationCallback(case.perturbation))
    settings: dict[str, Any] = dict(case.settings)
    if rank is not None:
        strategy = ModelParallelStrategy(PROCESSES, 1, process_group_backend="gloo")
        settings |= {"strategy": strategy, "devices": PROCESSES, "use_distributed_sampler": False}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, batches(rank))
    return {"weights": watch.weights, "shards": watch.shards}


def work(rank: int, processes: int, port: int, folder: Path) -> None:
    """Run all cases on this rank and save what came out."""
    become_rank(rank, processes, port)
    results = {name: train(case, rank) for name, case in CASES.items()}
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
