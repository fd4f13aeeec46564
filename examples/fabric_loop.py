"""Perturb an optimizer under Lightning Fabric.

python examples/fabric_loop.py
"""

import torch
from lightning.fabric import Fabric
from torch import nn

from lightning_qsgd import AllEntries, Perturbation, PerturbedOptimizer, RelativeInjection
from lightning_qsgd.data import DigitsDataModule


def main(max_epochs: int = 2) -> float:
    """Train a perceptron on digits and return its validation accuracy."""
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.seed_everything(0, verbose=False)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    perturbation = Perturbation(
        coordinates=AllEntries(), injection=RelativeInjection(), strength=0.5
    )
    optimizer = PerturbedOptimizer(torch.optim.AdamW(network.parameters(), lr=1e-2), perturbation)
    network, optimizer = fabric.setup(network, optimizer)

    data = DigitsDataModule()
    data.setup("fit")
    train, val = fabric.setup_dataloaders(data.train_dataloader(), data.val_dataloader())
    for _ in range(max_epochs):
        for x, y in train:
            optimizer.zero_grad()
            fabric.backward(nn.functional.cross_entropy(network(x), y))
            optimizer.step()

    with torch.no_grad():
        correct = sum((network(x).argmax(1) == y).sum().item() for x, y in val)
    accuracy = correct / len(val.dataset)
    print(f"validation accuracy {accuracy:.3f}, perturbed {optimizer.own_state.applied} steps")
    return accuracy


if __name__ == "__main__":
    main()
