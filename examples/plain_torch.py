"""Perturb any torch optimizer in a loop of your own; save and resume as usual.

python examples/plain_torch.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from lightning_qsgd import Perturbation, PerturbedOptimizer, Strength


def main(steps: int = 200) -> PerturbedOptimizer:
    """Train a perceptron on digits, with a strength that warms up over 20 steps."""
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 16
    y = torch.tensor(digits.target)
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    base = torch.optim.AdamW(network.parameters(), lr=1e-2)
    optimizer = PerturbedOptimizer(base, Perturbation(strength=Strength(0.5, warmup_steps=20)))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)

    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()

    print(f"loss {loss.item():.3f}, perturbed {optimizer.own_state.applied} steps")
    print(f"relative size {optimizer.report.relative_size:.1e}: AdamW hardly notices Eq. 1")
    base.load_state_dict(optimizer.state_dict())  # a plain AdamW takes the checkpoint as it is
    return optimizer


if __name__ == "__main__":
    main()
