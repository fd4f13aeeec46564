"""Takes 20,000 perturbed steps and prints how much memory the process holds.

    python -m benchmarks.soak

Every hundredth step copies, saves and loads the optimizer, so that what a run keeps would add up.
"""

import gc
import warnings
from copy import deepcopy

import torch

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation, RandomEntries

STEPS = 20_000
WARM = 4_000


def resident() -> int:
    """Return the memory that the process holds, in KiB (Linux)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def main() -> None:
    """Train, and print the memory after a warm-up and at the end."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    base = torch.optim.AdamW(model.parameters(), lr=1e-3)
    optimizer = PerturbedOptimizer(base, Perturbation(coordinates=RandomEntries(), strength=0.1))
    data = torch.rand(32, 8)
    held = {}
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        (model(data) - data.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
        if step % 100 == 0:
            deepcopy((model, optimizer))
            optimizer.load_state_dict(optimizer.state_dict())
        if step in (WARM, STEPS):
            gc.collect()
            held[step] = resident()
            print(f"after {step:,} steps: {held[step]:,} KiB")
    print(f"change: {100 * (held[STEPS] / held[WARM] - 1):+.2f} %")


if __name__ == "__main__":
    main()
