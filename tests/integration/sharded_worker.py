"""What each process does in the tests of sharded parameters."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from lightning_qsgd.backends import CompiledBackend, SamplerBackend
from lightning_qsgd.circuits import SignalProcessingCircuit, SuperpositionCircuit
from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import (
    Alignment,
    AllEntries,
    CyclicEntries,
    FirstOfModel,
    GaussianControl,
    GradientInjection,
    HiddenMatrices,
    LargestGradient,
    Learning,
    NoiseInjection,
    NudgeInjection,
    Perturbation,
    RandomEntries,
    RelativeInjection,
    RenormalisedInjection,
    RescaledStepControl,
    SpectralInjection,
    Step,
    UpdateInjection,
    Weight,
)
from tests.integration.processes import join_gloo
from tests.learning_cases import Entangled

STEPS, BATCH = 4, 8
Distribute = Callable[[nn.Module], int]
"""Shards a network in place and returns over how many processes the batch is divided."""


class Network(nn.Module):
    """Tensors of 1, 4, 6 and 7 rows, fewer than processes or divided by none; one is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.up = nn.Linear(5, 6)
        self.norm = nn.LayerNorm(6)
        self.down = nn.Linear(6, 4)
        self.middle = nn.Linear(4, 7)
        self.head = nn.Linear(7, 1)
        self.frozen = nn.Parameter(torch.full((5,), 0.5), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.down(self.norm(self.up(x * self.frozen))))
        return self.head(torch.tanh(self.middle(hidden)))


class WithUnused(Network):
    """Two tensors never take part, so their gradients stay None."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 2)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2)


def fsdp(network: nn.Module) -> int:
    fully_shard(network.down)
    fully_shard(network)
    return dist.get_world_size()


def fsdp_beside_plain(network: nn.Module) -> int:
    """The head stays as it is on every process; its gradient must then be averaged by hand."""
    head = set(network.head.parameters())
    fully_shard(network, ignored_params=head)
    for parameter in head:
        parameter.register_post_accumulate_grad_hook(_average)
    return dist.get_world_size()


def _average(parameter: Tensor) -> None:
    dist.all_reduce(parameter.grad)
    parameter.grad /= dist.get_world_size()


def tensor_parallel(network: nn.Module) -> int:
    _parallelize(network, init_device_mesh("cpu", (dist.get_world_size(),)))
    return 1


def replicated_and_sharded(network: nn.Module) -> int:
    fully_shard(network, mesh=_mesh())
    return dist.get_world_size()


def fsdp_over_tensor_parallel(network: nn.Module) -> int:
    mesh = _mesh()
    _parallelize(network, mesh["inner"])
    fully_shard(network.down, mesh=mesh["outer"])
    fully_shard(network, mesh=mesh["outer"])
    return mesh.size(0)


def _mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (2, 2), mesh_dim_names=("outer", "inner"))


def _parallelize(network: nn.Module, mesh: DeviceMesh) -> None:
    rows = {"output_layouts": Shard(0), "use_local_output": False}
    plan = {
        "up": ColwiseParallel(**rows),
        "norm": SequenceParallel(sequence_dim=0),
        "down": ColwiseParallel(input_layouts=Shard(0)),
        "middle": RowwiseParallel(),
    }
    parallelize_module(network, mesh, plan)


@dataclass(frozen=True)
class Case:
    """One training that one process and several must agree on."""

    distribute: Distribute
    perturbation: Perturbation
    make: Callable[[Any], torch.optim.Optimizer] = sgd
    clip: float | None = None
    network: type[Network] = Network


STRONG = 0.9
SHOTS = SamplerBackend(SuperpositionCircuit(2), sampling=16)
KINDS = {
    "update": Perturbation(strength=STRONG),
    "gradient": Perturbation(strength=STRONG, injection=GradientInjection()),
    "relative": Perturbation(strength=STRONG, injection=RelativeInjection()),
    "circuit at all entries": Perturbation(CompiledBackend(), AllEntries(), STRONG),
    "first of the model": Perturbation(CompiledBackend(), FirstOfModel(50), STRONG),
    "random entries": Perturbation(coordinates=RandomEntries(), strength=STRONG),
    "spectrum": Perturbation(
        SignalProcessingCircuit(), HiddenMatrices(()), STRONG, SpectralInjection()
    ),
    "cyclic entries": Perturbation(coordinates=CyclicEntries(3), strength=STRONG),
    "largest gradient": Perturbation(coordinates=LargestGradient(), strength=STRONG),
    "shots": Perturbation(SHOTS, strength=STRONG),
    "learned": Perturbation(Entangled(), AllEntries(), STRONG, learning=Learning(0.1, 0.3)),
    "gaussian control": Perturbation(
        strength=STRONG, injection=UpdateInjection(control=GaussianControl())
    ),
    "rescaled step": Perturbation(
        strength=STRONG, injection=RelativeInjection(control=RescaledStepControl())
    ),
    "noise": Perturbation(injection=NoiseInjection(0.3)),
    "nudge": Perturbation(injection=NudgeInjection(1e-2)),
    "features": Perturbation(
        CompiledBackend(SuperpositionCircuit(3, reps=1), weight_seed=1),
        AllEntries(),
        STRONG,
        RenormalisedInjection(),
        features=[Alignment(), Step(), Weight()],
    ),
}
TWO = {
    **{f"FSDP2, {kind}": Case(fsdp, perturbation) for kind, perturbation in KINDS.items()},
    "FSDP2, features, AdamW": Case(fsdp, KINDS["features"], adamw),
    "tensor parallel, features": Case(tensor_parallel, KINDS["features"]),
    "FSDP2, AdamW": Case(fsdp, KINDS["relative"], adamw),
    "FSDP2, clipped": Case(fsdp, KINDS["update"], clip=0.05),
    "FSDP2, unused tensors": Case(fsdp, KINDS["nudge"], network=WithUnused),
    "FSDP2 beside plain tensors": Case(fsdp_beside_plain, KINDS["circuit at all entries"]),
    "tensor parallel": Case(tensor_parallel, KINDS["circuit at all entries"]),
    "tensor parallel, gradient": Case(tensor_parallel, KINDS["gradient"]),
    "tensor parallel, relative": Case(tensor_parallel, KINDS["relative"]),
    "tensor parallel, largest gradient": Case(tensor_parallel, KINDS["largest gradient"]),
}
FOUR = {
    f"{name}, {kind}": Case(distribute, KINDS[kind])
    for name, distribute in {
        "FSDP2": fsdp,
        "replicated and sharded": replicated_and_sharded,
        "FSDP2 over tensor parallel": fsdp_over_tensor_parallel,
    }.items()
    for kind in ("circuit at all entries", "gradient", "relative", "largest gradient")
}
CASES = {2: TWO, 4: FOUR}


def train(case: Case, alone: bool, perturbed: bool = True) -> dict[str, Any]:
    """Train in this process, alone or with the others; return weights, report and counters."""
    network = case.network()
    shares = 1 if alone else case.distribute(network)
    share = dist.get_rank() * shares // dist.get_world_size() if shares > 1 else 0
    optimizer: Any = case.make(network.parameters())
    if perturbed:
        optimizer = PerturbedOptimizer(optimizer, case.perturbation)
        optimizer.measure_every = optimizer.measure_model_every = 1
    for x, y in batches():
        optimizer.zero_grad()
        own = (x.chunk(shares)[share], y.chunk(shares)[share])
        nn.functional.mse_loss(network(own[0]), own[1]).backward()
        if case.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), case.clip)
        optimizer.step()
    result = {"weights": {name: whole(p) for name, p in network.named_parameters()}}
    return {**result, **describe(optimizer)} if perturbed else result


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(STEPS, BATCH, 5, generator=generator)
    return list(zip(x, x.sum(-1, keepdim=True).sin(), strict=True))


def whole(parameter: Any) -> Tensor:
    detached = parameter.detach()
    return (detached.full_tensor() if hasattr(detached, "full_tensor") else detached).clone()


def describe(optimizer: PerturbedOptimizer) -> dict[str, Any]:
    report, own = optimizer.report, optimizer.own_state
    assert report is not None
    return {
        "sizes": [report.relative_size, report.model_relative_size or 0.0, report.cosine],
        "total": report.total,
        "factor": own.learned.factor if own.learned else 1.0,
        "circuit": own.learned.weights if own.learned else None,
        "applied": own.applied,
    }


def work(rank: int, processes: int, port: int, folder: Path) -> None:
    """Run all cases on this rank and save what came out."""
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    join_gloo(rank, processes, port)
    results = {name: train(case, alone=False) for name, case in CASES[processes].items()}
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()
